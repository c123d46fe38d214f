"""Writing an object of any size: parts are sent while the next ones are written.

A small file is sent at once. A larger one is a multipart upload of obstore in a thread of its own:
obstore aborts an upload when the iterator that it reads from raises. (Its file-like writer leaves
the parts behind.)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vector_backup_pipeline.engine.errors import ResourceNotFound, StorageError
from vector_backup_pipeline.engine.piped_thread import PipedThread
from vector_backup_pipeline.engine.storage.object_errors import object_errors
from vector_backup_pipeline.engine.storage.store import TransientStorageError

if TYPE_CHECKING:
    from obstore.store import ObjectStore as Obstore

MEBIBYTE = 1 << 20
# The limit of S3 and GCS; Azure accepts 50,000.
MAX_PARTS = 10_000
# At most three parts are in memory: two being sent, one being filled.
_SMALLEST_PART = 8 * MEBIBYTE
_CONCURRENT_PARTS = 2
# Blocks of rows between the writer and the part being filled.
_QUEUED_PIECES = 1


def part_size_for(expected_size: int | None) -> int:
    """Bytes of a part for a file of about that size, which may become twice as large.

    All parts of an upload have one size, as some services (R2) require.
    """
    needed = -(-2 * (expected_size or 0) // MAX_PARTS)
    return max(_SMALLEST_PART, -(-needed // MEBIBYTE) * MEBIBYTE)


class ObjectUpload:
    """Implements `store.Upload`. Nothing is visible before `complete`."""

    def __init__(self, store: Obstore, key: str, part_size: int, location: str) -> None:
        self._store = store
        self._key = key
        self._part_size = part_size
        self._location = location
        self._size = 0
        self._held: list[bytes] = []
        self._thread: PipedThread | None = None

    def write(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._part_size * MAX_PARTS:
            raise StorageError(
                f"{self._location} would need more than {MAX_PARTS:,} parts of "
                f"{self._part_size // MEBIBYTE} MiB, the limit of object storage. Set "
                "VECTOR_BACKUP_PART_SIZE to a larger number of MiB."
            )
        self._held.append(data)
        if self._size <= _SMALLEST_PART:
            return
        if self._thread is None:
            self._thread = PipedThread(self._send_parts, "vector-backup-upload", _QUEUED_PIECES)
        held, self._held = self._held, []
        for piece in held:
            self._thread.feed(piece)

    def complete(self) -> None:
        if self._thread is None:
            self._send(b"".join(self._held), use_multipart=False)
            return
        try:
            self._thread.finish()
        except (StorageError, ResourceNotFound) as error:
            # The response may have been lost, and the repeated request refused.
            raise TransientStorageError(error.summary, error.advice) from None

    def abort(self) -> None:
        """Waits for the parts being sent."""
        if self._thread is not None:
            self._thread.stop()

    def _send_parts(self, thread: PipedThread) -> None:
        self._send(thread.pieces(), use_multipart=True)

    def _send(self, data: bytes | Iterator[bytes], *, use_multipart: bool) -> None:
        import obstore

        with object_errors(f"upload {self._location}"):
            obstore.put(
                self._store,
                self._key,
                data,
                use_multipart=use_multipart,
                chunk_size=self._part_size,
                max_concurrency=_CONCURRENT_PARTS,
            )
