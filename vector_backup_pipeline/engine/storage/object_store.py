"""obstore's stores for a bucket, from its URL and the environment."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from vector_backup_pipeline.engine.errors import StorageError
from vector_backup_pipeline.engine.storage.object_errors import object_errors
from vector_backup_pipeline.engine.storage.object_url import AZURE, GCS, S3, ObjectUrl
from vector_backup_pipeline.engine.storage.s3_environment import S3Environment

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_EXTRAS = {S3: "s3", GCS: "gcs", AZURE: "azure"}
# A whole answer may take long, since its reader may; but not one read of it.
_ANSWER_TIMEOUT, _READ_TIMEOUT = "1day", "20s"
_CONNECT_TIMEOUT = "10s"
# The driver's time-outs know nothing of bytes that go out, so a body has to be sent whole in time:
# a minute, and what it takes at a rate that only a broken line is below.
_SENDING_SECONDS, _SLOWEST_SENDING = 60, 128 << 10
# Of an upload, which may be the work of hours; `object_retries` waits out shorter outages.
_UPLOAD_RETRY_SECONDS = 180
_UPLOAD_RETRIES = 30
_BACKOFF = {
    "init_backoff": timedelta(milliseconds=200),
    "max_backoff": timedelta(seconds=10),
    "base": 2,
}


def open_store(url: ObjectUrl) -> ObjectStore:
    """For requests that send next to nothing; each is sent once."""
    return _open(url, {"timeout": _ANSWER_TIMEOUT, "read_timeout": _READ_TIMEOUT})


def open_store_for_writing(url: ObjectUrl, size: int) -> ObjectStore:
    """For a body of `size` bytes; each is sent once."""
    return _open(url, {"timeout": f"{_seconds_to_send(size)}s"})


def open_store_for_parts(url: ObjectUrl, part_size: int) -> ObjectStore:
    """For uploads in parts of `part_size` bytes, each of which the driver retries."""
    seconds = _seconds_to_send(part_size)
    patience = timedelta(seconds=seconds + _UPLOAD_RETRY_SECONDS)
    return _open(url, {"timeout": f"{seconds}s"}, _UPLOAD_RETRIES, patience)


def _seconds_to_send(size: int) -> int:
    return _SENDING_SECONDS + size // _SLOWEST_SENDING


def _open(
    url: ObjectUrl,
    client: dict[str, Any],
    retries: int = 0,
    patience: timedelta = timedelta(),
) -> ObjectStore:
    store = obstore_of(url).store
    client = {**client, "connect_timeout": _CONNECT_TIMEOUT}
    retry: Any = {"max_retries": retries, "backoff": _BACKOFF, "retry_timeout": patience}
    with object_errors(f"set up the access to {url.scheme}://{url.bucket}"):
        if url.scheme == S3:
            environment = S3Environment.read(url.bucket)
            client |= environment.client_options()
            opened = store.S3Store(
                url.bucket,
                client_options=client,
                retry_config=retry,
                credential_provider=environment.credential_provider(),
                **environment.options(),
            )
        elif url.scheme == GCS:
            opened = store.GCSStore(url.bucket, client_options=client, retry_config=retry)
        else:
            opened = store.AzureStore(url.bucket, client_options=client, retry_config=retry)
    return cast("ObjectStore", opened)


def obstore_of(url: ObjectUrl) -> Any:
    """obstore, imported when it is needed.

    Raises:
        StorageError: it is not installed.
    """
    try:
        import obstore
        import obstore.store
    except ImportError as error:
        raise StorageError(
            f"{url.scheme}:// needs the package obstore, which is not installed. Install it: "
            f"pip install 'vector-backup-pipeline[{_EXTRAS[url.scheme]}]'"
        ) from error
    return obstore
