"""A file on its way into a bucket: parts go out while the next ones come in.

Up to `_SMALL` bytes a file is held and put at once. A larger one is a multipart upload by obstore,
in a thread of its own: an iterator that raises is how obstore is made to abort an upload (its
file-like writer leaves the parts behind, and so does a process that is killed).
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vector_backup_pipeline.engine import cancellation
from vector_backup_pipeline.engine.errors import BackupError, IntegrityError, StorageError
from vector_backup_pipeline.engine.storage.abandoned_uploads import abort_uploads_of
from vector_backup_pipeline.engine.storage.object_bucket import Bucket
from vector_backup_pipeline.engine.storage.object_errors import object_errors
from vector_backup_pipeline.engine.storage.object_store import open_store_for_parts
from vector_backup_pipeline.engine.storage.object_url import S3

if TYPE_CHECKING:
    from obstore.store import ObjectStore

MEBIBYTE = 1 << 20
# S3's and GCS's most; Azure would take 50,000.
MOST_PARTS = 10_000
# Three parts are in memory at most: two under way, one that fills.
_SMALLEST_PART = 8 * MEBIBYTE
_PARTS_UNDER_WAY = 2
# Wait between the writer and the part that fills: a block of rows.
_WAITING_PIECES = 1
_SMALL = 8 * MEBIBYTE
# An abort waits for the parts under way; beyond this it goes on by itself.
_ABORT_SECONDS = 60.0
# How often who waits looks whether it still should.
_LOOK_EVERY_SECONDS = 0.1


def part_size_for(expected_size: int | None) -> int:
    """Bytes of a part for a file of about that size, which may still become twice as large.

    All parts of an upload are of one size, since some services (R2) want that.
    """
    wanted = -(-2 * (expected_size or 0) // MOST_PARTS)
    return max(_SMALLEST_PART, -(-wanted // MEBIBYTE) * MEBIBYTE)


class ObjectPendingFile:
    """Nothing is to be seen of it before `commit`; `discard` before that aborts it."""

    def __init__(self, bucket: Bucket, key: str, part_size: int) -> None:
        self._bucket = bucket
        self._key = key
        self._part_size = part_size
        self._held: list[bytes] = []
        self._written = 0
        self._upload: _Upload | None = None
        self._is_closed = self._is_committed = False
        # Once nothing was found under the name, what appears there is ours.
        self._name_was_free = False

    def write(self, data: bytes) -> None:
        self._check_open()
        self._check_size(len(data))
        self._written += len(data)
        if self._upload is not None:
            self._upload.feed(data)
            return
        self._held.append(data)
        if self._written > _SMALL:
            self._begin()

    def commit(self) -> None:
        self._check_open()
        if self._bucket.look(self._key) is not None:
            raise self._exists()
        self._name_was_free = True
        if self._upload is None:
            self._put()
        else:
            self._finish(self._upload)
        self._is_closed = True
        found = self._bucket.look(self._key)
        size = found.size if found else None
        if size != self._written:
            raise IntegrityError(
                f"{self._where} has {size} bytes but {self._written} were written to it. Check the "
                "store, and make a new backup."
            )
        self._is_committed = True

    def discard(self) -> None:
        """Abort what was not committed, and remove what a commit that was cut short completed."""
        self._is_closed = True
        if self._is_committed:
            return
        self._held.clear()
        if self._upload is not None:
            self._upload.abort()
            self._abort_what_is_left(self._upload)
        if self._name_was_free:
            with contextlib.suppress(BackupError):  # The error that led here matters more.
                self._bucket.delete(self._key)

    def _abort_what_is_left(self, upload: _Upload) -> None:
        """obstore 0.11, the newest for Python 3.10, aborts nothing when a last part fails."""
        if upload.has_failed and self._bucket.url.scheme == S3:
            with contextlib.suppress(BackupError):  # `prune` and lifecycle rules come after us.
                abort_uploads_of(self._bucket.url_of(self._key))

    @property
    def _where(self) -> str:
        return self._bucket.at(self._key)

    def _begin(self) -> None:
        store = open_store_for_parts(self._bucket.url, self._part_size)
        self._upload = _Upload(store, self._key, self._part_size, f"upload {self._where}")
        self._upload.start()
        held, self._held = self._held, []
        for data in held:
            self._upload.feed(data)

    def _put(self) -> None:
        data = b"".join(self._held)
        folder = self._key.rpartition("/")[0]
        if not self._bucket.has_conditions(folder):
            self._bucket.write(self._key, data)
        elif self._bucket.write_if(self._key, data, "create") is None:
            self._name_was_free = False
            raise self._exists()

    def _finish(self, upload: _Upload) -> None:
        try:
            upload.finish()
        except BackupError:
            # The answer to the last request may be lost, and the object there; there was none.
            found = self._bucket.look(self._key)
            if found is None or found.size != self._written:
                raise

    def _exists(self) -> StorageError:
        return StorageError(f"{self._where} exists already; it is not overwritten.")

    def _check_open(self) -> None:
        if self._is_closed:
            raise StorageError(f"{self._where} is closed already.")

    def _check_size(self, more: int) -> None:
        if self._written + more > self._part_size * MOST_PARTS:
            mebibytes = self._part_size // MEBIBYTE
            raise StorageError(
                f"{self._where} would need more than {MOST_PARTS:,} parts of {mebibytes} MiB, and "
                "stores take no more. Set VECTOR_BACKUP_PART_SIZE to a larger number of MiB."
            )


class _Upload:
    """A multipart upload in a thread of its own."""

    def __init__(self, store: ObjectStore, key: str, part_size: int, action: str) -> None:
        self._store = store
        self._key = key
        self._part_size = part_size
        self._action = action
        self._pieces: queue.Queue[bytes | None] = queue.Queue(_WAITING_PIECES)
        self._is_given_up = threading.Event()
        self._error: BaseException | None = None
        # A daemon: an abort that can't get through does not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="vector-backup-upload", daemon=True)

    @property
    def has_failed(self) -> bool:
        return self._error is not None

    def start(self) -> None:
        self._thread.start()

    def feed(self, data: bytes) -> None:
        """Hand over some bytes; waits while others do."""
        if not self._put(data):
            self.finish()
            raise StorageError(f"Could not {self._action}: it ended too early. Try again.")

    def finish(self) -> None:
        """Complete the object. Raises what the upload failed of, which is then aborted."""
        self._put(None)
        while self._thread.is_alive():
            cancellation.check()
            self._thread.join(_LOOK_EVERY_SECONDS)
        if self._error is not None:
            raise self._error

    def abort(self) -> None:
        """Abort what is not complete."""
        self._is_given_up.set()
        if self._thread.ident is not None:
            self._thread.join(_ABORT_SECONDS)

    def _run(self) -> None:
        import obstore

        try:
            with object_errors(self._action):
                obstore.put(
                    self._store,
                    self._key,
                    self._taken(),
                    use_multipart=True,
                    chunk_size=self._part_size,
                    max_concurrency=_PARTS_UNDER_WAY,
                )
        except _GivenUp:
            pass
        except BaseException as error:  # noqa: BLE001 - raised in the writer's thread.
            self._error = error

    def _taken(self) -> Iterator[bytes]:
        while not self._is_given_up.is_set():
            try:
                piece = self._pieces.get(timeout=_LOOK_EVERY_SECONDS)
            except queue.Empty:
                continue
            if piece is None:
                return
            yield piece
        raise _GivenUp

    def _put(self, piece: bytes | None) -> bool:
        """Hand over a piece, None for the end; False if the upload has ended already."""
        while self._thread.is_alive():
            cancellation.check()
            with contextlib.suppress(queue.Full):
                self._pieces.put(piece, timeout=_LOOK_EVERY_SECONDS)
                return True
        return False


class _GivenUp(Exception):
    """Raised into obstore, which then aborts the upload."""
