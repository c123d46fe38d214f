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
_ANSWER_TIMEOUT, _READ_TIMEOUT = "1day", "60s"
_CONNECT_TIMEOUT = "10s"
# The driver's time-outs know nothing of bytes that go out, so a part has to be sent whole in time:
# a minute, and what it takes at a rate that only a broken line is below.
_UPLOAD_SECONDS, _SLOWEST_UPLOAD = 60, 128 << 10
# How long an outage is waited out. A wrong endpoint looks like one, so not longer than a person
# waits; an upload of hours may wait longer.
_RETRY_SECONDS, _UPLOAD_RETRY_SECONDS = 60, 180
_RETRIES = 30
_BACKOFF = {
    "init_backoff": timedelta(milliseconds=200),
    "max_backoff": timedelta(seconds=10),
    "base": 2,
}


def open_store(url: ObjectUrl, *, is_patient: bool = True) -> ObjectStore:
    """For all requests whose answer soon begins; an impatient one asks once."""
    client = {"timeout": _ANSWER_TIMEOUT, "read_timeout": _READ_TIMEOUT}
    return _open(url, client, timedelta(seconds=_RETRY_SECONDS if is_patient else 0))


def open_store_for_parts(url: ObjectUrl, part_size: int) -> ObjectStore:
    """For uploads in parts of `part_size` bytes."""
    seconds = _UPLOAD_SECONDS + part_size // _SLOWEST_UPLOAD
    return _open(
        url, {"timeout": f"{seconds}s"}, timedelta(seconds=seconds + _UPLOAD_RETRY_SECONDS)
    )


def _open(url: ObjectUrl, client: dict[str, Any], retry_timeout: timedelta) -> ObjectStore:
    store = obstore_of(url).store
    client = {**client, "connect_timeout": _CONNECT_TIMEOUT}
    retry: Any = {"max_retries": _RETRIES, "backoff": _BACKOFF, "retry_timeout": retry_timeout}
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
