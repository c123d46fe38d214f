"""A bucket as a store: Amazon S3 and compatible services, Google Cloud Storage, Azure; by obstore.

Some services of S3's kind have no conditional writes (Aliyun OSS). There, `create` and `put` over a
version take turns: a process announces itself by an object beside the file, and proceeds only if it
is the only one. Of two at the same time at least one sees the other, since these services list what
was written before.
"""

from __future__ import annotations

import contextlib
import random
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from vector_backup_pipeline.engine.errors import InvalidParams, ResourceNotFound, StorageError
from vector_backup_pipeline.engine.file_names import PENDING_SUFFIX
from vector_backup_pipeline.engine.storage.object_errors import (
    ConditionFailed,
    ConditionsUnsupported,
    object_errors,
)
from vector_backup_pipeline.engine.storage.object_upload import ObjectUpload, part_size_for
from vector_backup_pipeline.engine.storage.object_url import (
    AZURE,
    GCS,
    S3,
    is_url,
    parse_object_url,
)
from vector_backup_pipeline.engine.storage.retries import read_small_file, repeated
from vector_backup_pipeline.engine.storage.s3_environment import (
    S3Environment,
    certificates,
    list_unfinished_uploads,
)
from vector_backup_pipeline.engine.storage.store import (
    CHUNK_BYTES,
    CreatedFile,
    Listing,
    OpenFile,
    StoredFile,
    TransientStorageError,
    UnfinishedUpload,
    version_of,
)

if TYPE_CHECKING:
    from obstore import GetResult
    from obstore.store import ObjectStore as Obstore

_EXTRAS = {S3: "s3", GCS: "gcs", AZURE: "azure"}
_CONNECT_TIMEOUT = "10s"
# A response as a whole may take long because its reader may be slow, but a single read may not.
_ANSWER_TIMEOUT, READ_TIMEOUT = "1day", "20s"
# The time-outs ignore bytes sent, so a body must be sent completely in time: a minute, and what it
# takes at a rate that only a broken line is below.
_SENDING_SECONDS, _SLOWEST_RATE = 60, 128 << 10
# The largest small file: a manifest or the log.
_SMALL_FILE_BYTES = 32 << 20
# obstore retries only the parts of an upload, which may represent hours of work. Other requests are
# retried here, because obstore does not retry all transient errors, and a retried conditional write
# may find the object that its first attempt wrote.
PART_RETRIES = 30
_PART_RETRY_SECONDS = 180
BACKOFF = {
    "init_backoff": timedelta(milliseconds=200),
    "max_backoff": timedelta(seconds=10),
    "base": 2,
}
# A process whose announcement is older was killed.
TURN_EXPIRES_AFTER = timedelta(minutes=5)
_LONGEST_PAUSE = 0.3


class ObjectStore:
    """Implements `store.Store` under a prefix of a bucket."""

    def __init__(self, root: str, part_size: int | None = None) -> None:
        """`part_size` of all uploads in bytes; None to derive it from the file's expected size."""
        self._url = parse_object_url(root)
        self._part_size = part_size

    def location(self, path: str = "") -> str:
        return str(self._url / path)

    def folder_at(self, location: str) -> str:
        above, _, name = str(self._url).rpartition("/")
        url = parse_object_url(location if is_url(location) else f"{above}/{location}")
        if not f"{url}/".startswith(f"{self._url}/"):
            raise InvalidParams(
                f"The backup_path {location!r} is outside of the root {self._url}. Give a path "
                f"under it: a URL, or relative to what is above it, such as {name}/…; or set "
                "VECTOR_BACKUP_ROOT."
            )
        return f"{url}/".removeprefix(f"{self._url}/").rstrip("/")

    def make_folder(self, folder: str) -> Callable[[], None]:
        # A bucket has no folders to create, but a wrong bucket or wrong credentials fail here.
        self.list_folder(folder)
        return lambda: None

    def free_bytes(self) -> None:
        return None

    @repeated
    def list_folder(self, folder: str) -> Listing | None:
        prefix = self._key(folder)
        with object_errors(f"list {self.location(folder)}"):
            listed = self._obstore.list_with_delimiter(self._requests, prefix or None)
        # An empty object `prefix/` is how consoles make a folder.
        if prefix and not listed["objects"] and not listed["common_prefixes"]:
            return None
        files = [_stored_file(meta) for meta in listed["objects"] if meta["path"] != prefix]
        folders = [path.rstrip("/").rpartition("/")[2] for path in listed["common_prefixes"]]
        return Listing(sorted(files, key=lambda file: file.name), sorted(folders))

    @repeated
    def stat(self, path: str) -> StoredFile:
        with object_errors(f"look at {self.location(path)}"):
            return _stored_file(self._obstore.head(self._requests, self._key(path)))

    def open(self, path: str, offset: int = 0, length: int | None = None) -> OpenFile:
        action = f"read {self.location(path)}"
        options: dict[str, Any] = {}
        if length is not None:
            options["range"] = (offset, offset + length)
        elif offset:
            options["range"] = {"offset": offset}
        try:
            with object_errors(action):
                answer = self._obstore.get(self._requests, self._key(path), options=options)
        except StorageError as error:
            # Servers also report an error if the range is empty or past the end.
            if not options or isinstance(error, TransientStorageError):
                raise
            file = self.stat(path)
            if length != 0 and offset < file.size:
                raise
            return OpenFile(file, _chunks(None, action))
        return OpenFile(_stored_file(answer.meta), _chunks(answer, action))

    def create(self, path: str, data: bytes) -> CreatedFile | None:
        file = self._put_conditionally(path, data, "create", None)
        return CreatedFile(file) if file else None

    def put(self, path: str, data: bytes, over: StoredFile | None = None) -> StoredFile | None:
        if over is None:
            return self._put(path, data)
        return self._put_conditionally(path, data, over.state, over.version)

    def _put_conditionally(
        self, path: str, data: bytes, mode: Any, version: str | None
    ) -> StoredFile | None:
        """Write a small object if it has that version; None if it does not."""
        try:
            return self._put(path, data, mode)
        except (ConditionFailed, ResourceNotFound):
            current = read_small_file(self, path)
            # The object of an earlier attempt, if its response was lost.
            return current[0] if current is not None and current[1] == data else None
        except ConditionsUnsupported:
            with self._turn(path):
                current = read_small_file(self, path)
                if version != (current and current[0].version):
                    return None
                return self._put(path, data)

    def upload(self, path: str, expected_size: int | None = None) -> ObjectUpload:
        part_size = self._part_size or part_size_for(expected_size)
        store = self._open_store(part_size, PART_RETRIES)
        return ObjectUpload(store, self._key(path), part_size, self.location(path))

    @repeated
    def delete(self, path: str) -> None:
        with contextlib.suppress(ResourceNotFound), object_errors(f"remove {self.location(path)}"):
            self._obstore.delete(self._requests, self._key(path))

    def lock(self, path: str) -> None:  # noqa: ARG002 - a bucket has no locks.
        return None

    def unfinished_uploads(self) -> list[UnfinishedUpload]:
        # Google and Azure offer no listing, and have rules to remove them: docs/storage.md.
        return list_unfinished_uploads(self._url) if self._url.scheme == S3 else []

    @contextlib.contextmanager
    def _turn(self, path: str) -> Iterator[None]:
        """Exclude other processes from changing `path`."""
        announcement = f"{path}.{uuid.uuid4().hex}{PENDING_SUFFIX}"
        while True:
            try:
                self._put(announcement, b"")
                if self._is_alone(path, announcement):
                    yield
                    return
            finally:
                self.delete(announcement)
            # A random pause, so that two processes that both gave way do not collide again.
            time.sleep(random.uniform(0, _LONGEST_PAUSE))  # noqa: S311

    def _is_alone(self, path: str, announcement: str) -> bool:
        folder, _, name = path.rpartition("/")
        listed = self.list_folder(folder)
        announced = {
            file.name: file
            for file in (listed.files if listed else ())
            if file.name.startswith(f"{name}.") and file.name.endswith(PENDING_SUFFIX)
        }
        own = announced.pop(announcement.rpartition("/")[2], None)
        if own is None:
            return False
        for file in list(announced.values()):
            # Both times are from the clock of the service.
            if own.modified_at - file.modified_at >= TURN_EXPIRES_AFTER:
                self.delete(f"{folder}/{file.name}" if folder else file.name)
                del announced[file.name]
        return not announced

    @repeated
    def _put(self, path: str, data: bytes, mode: Any = "overwrite") -> StoredFile:
        """Write a small object, maybe under a condition."""
        with object_errors(f"write {self.location(path)}"):
            answer = self._obstore.put(
                self._writes, self._key(path), data, mode=mode, use_multipart=False
            )
        # Only a listing would return the store's own time, and no caller needs it.
        now = datetime.now(timezone.utc)
        return _stored_file({"path": path, "size": len(data), "last_modified": now, **answer})

    def _key(self, path: str) -> str:
        return (self._url / path).key

    @cached_property
    def _requests(self) -> Obstore:
        """For requests with an empty body."""
        return self._open_store()

    @cached_property
    def _writes(self) -> Obstore:
        """For small files."""
        return self._open_store(_SMALL_FILE_BYTES)

    @cached_property
    def _obstore(self) -> Any:
        """obstore, imported only when it is needed."""
        try:
            import obstore
            import obstore.store
        except ImportError as error:
            raise StorageError(
                f"{self._url.scheme}:// needs the package obstore, which is not installed. Install "
                f"it: pip install 'vector-backup-pipeline[{_EXTRAS[self._url.scheme]}]'"
            ) from error
        return obstore

    def _open_store(self, body_size: int = 0, retries: int = 0) -> Obstore:
        """obstore's store, for requests that send up to `body_size` bytes."""
        stores, bucket = self._obstore.store, self._url.bucket
        kinds = {S3: stores.S3Store, GCS: stores.GCSStore, AZURE: stores.AzureStore}
        # An http:// endpoint is the user's decision; an https:// one never redirects to http://.
        client: dict[str, Any] = {"connect_timeout": _CONNECT_TIMEOUT, "allow_http": True}
        seconds = _SENDING_SECONDS + body_size // _SLOWEST_RATE
        if body_size:
            client["timeout"] = f"{seconds}s"
        else:
            client |= {"timeout": _ANSWER_TIMEOUT, "read_timeout": READ_TIMEOUT}
        patience = timedelta(seconds=seconds + _PART_RETRY_SECONDS if retries else 0)
        retry = {"max_retries": retries, "backoff": BACKOFF, "retry_timeout": patience}
        options: dict[str, Any] = {"client_options": client, "retry_config": retry}
        with object_errors(f"set up the access to {self._url.scheme}://{bucket}"):
            if self._url.scheme == S3:
                if pem := certificates():
                    client["root_certificate"] = pem
                options |= S3Environment(bucket).obstore_options()
            return cast("Obstore", kinds[self._url.scheme](bucket, **options))


def _chunks(answer: GetResult | None, action: str) -> Generator[bytes, None, None]:
    with object_errors(action):
        for chunk in answer.stream(min_chunk_size=CHUNK_BYTES) if answer is not None else ():
            yield bytes(chunk)


def _stored_file(meta: Mapping[str, Any]) -> StoredFile:
    """A file from obstore's ObjectMeta."""
    state = {key: meta[key] for key in ("e_tag", "version") if meta[key] is not None}
    # A weak tag may remain the same when the bytes change.
    is_strong = state and not state.get("e_tag", "").startswith("W/")
    version = version_of(state if is_strong else (meta["size"], meta["last_modified"]))
    name = meta["path"].rpartition("/")[2]
    return StoredFile(name, meta["size"], meta["last_modified"], version, state)
