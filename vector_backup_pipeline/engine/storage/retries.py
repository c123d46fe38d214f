"""Repeats what a transient fault of the network or the store has spoiled."""

from __future__ import annotations

import contextlib
import logging
import random
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from vector_backup_pipeline.engine.errors import IntegrityError, ResourceNotFound, StorageError
from vector_backup_pipeline.engine.storage.store import (
    CreatedFile,
    Listing,
    Store,
    StoredFile,
    TransientStorageError,
    UnfinishedUpload,
    Upload,
)

_T = TypeVar("_T")

_log = logging.getLogger(__name__)

# An outage of this length is waited out. A wrong endpoint looks the same, so not longer than a
# person waits.
OUTAGE_SECONDS = 60.0
FIRST_WAIT, LONGEST_WAIT = 0.2, 10.0


class RetryingStore:
    """The primitives of a store, repeated while that may help, and `read`, `get` made of them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.has_locks = store.has_locks
        self.location = store.location
        self.folder_at = store.folder_at
        self.free_bytes = store.free_bytes
        self.lock = store.lock

    def make_folder(self, folder: str) -> Callable[[], None]:
        return _repeat(lambda: self._store.make_folder(folder))

    def list_folder(self, folder: str) -> Listing | None:
        return _repeat(lambda: self._store.list_folder(folder))

    def stat(self, path: str) -> StoredFile:
        return _repeat(lambda: self._store.stat(path))

    def delete(self, path: str) -> None:
        _repeat(lambda: self._store.delete(path))

    def upload(self, path: str, expected_size: int | None = None) -> Upload:
        return self._store.upload(path, expected_size)  # It retries its parts by itself.

    def unfinished_uploads(self) -> list[UnfinishedUpload]:
        return self._store.unfinished_uploads()  # boto3 retries by itself.

    def create(self, path: str, data: bytes) -> CreatedFile | None:
        created = _repeat(lambda: self._store.create(path, data))
        if created is None and (file := self._if_written(path, data)):
            return CreatedFile(file)
        return created

    def put(self, path: str, data: bytes, over: StoredFile | None = None) -> StoredFile | None:
        written = _repeat(lambda: self._store.put(path, data, over))
        return written or self._if_written(path, data)

    def get(self, path: str) -> tuple[StoredFile, bytes] | None:
        """A small file; None if it does not exist."""

        def read() -> tuple[StoredFile, bytes]:
            opened = self._store.open(path)
            return opened.file, b"".join(opened.chunks)

        try:
            return _repeat(read)
        except ResourceNotFound:
            return None

    def read(self, path: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The chunks of a file, continued where a connection was lost.

        Raises:
            IntegrityError: the file was replaced meanwhile.
        """
        version: str | None = None
        retries = _Retries()
        while True:
            try:
                opened = self._store.open(path, offset, length)
                with contextlib.closing(opened.chunks):
                    if version not in (None, opened.file.version):
                        raise IntegrityError(
                            f"{self.location(path)} was replaced while it was being read. "
                            "Something else writes there; try again."
                        )
                    version = opened.file.version
                    available = max(0, opened.file.size - offset)
                    length = available if length is None else min(length, available)
                    for chunk in opened.chunks:
                        offset, length = offset + len(chunk), length - len(chunk)
                        retries = _Retries()
                        yield chunk
                if length == 0:
                    return
                raise TransientStorageError(
                    f"Could not read {self.location(path)}: the answer ended early. Try again."
                )
            except TransientStorageError as error:
                if length == 0:
                    return
                retries.pause_after(error)

    def _if_written(self, path: str, data: bytes) -> StoredFile | None:
        """The file, if `data` is what it contains: then it was written, and the answer was lost."""
        found = self.get(path)
        return found[0] if found is not None and found[1] == data else None


class _Retries:
    """The pauses between the attempts, for a minute from the first failure."""

    def __init__(self) -> None:
        self._deadline: float | None = None
        self._wait = FIRST_WAIT

    def pause_after(self, error: TransientStorageError) -> None:
        """Sleep before the next attempt; raises the error if there should be none."""
        now = time.monotonic()
        if self._deadline is None:
            self._deadline = now + OUTAGE_SECONDS
        if now >= self._deadline:
            # Nobody else repeats it.
            raise StorageError(error.summary, error.advice) from error
        # The last attempt is made when the minute is over.
        wait = min(self._wait * random.uniform(0.5, 1), self._deadline - now)  # noqa: S311
        self._wait = min(LONGEST_WAIT, 2 * self._wait)
        _log.warning("%s Retry in %.1f s", error, wait)
        time.sleep(wait)


def _repeat(request: Callable[[], _T]) -> _T:
    retries = _Retries()
    while True:
        try:
            return request()
        except TransientStorageError as error:
            retries.pause_after(error)
