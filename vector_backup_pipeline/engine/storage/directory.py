"""One directory of backup sets: its files, its log and its run markers, in any store."""

from __future__ import annotations

import contextlib
import hashlib
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from vector_backup_pipeline.engine.encryption import (
    ENCRYPTED_SUFFIX,
    NO_ENCRYPTION,
    Encryption,
    EncryptionFormat,
    start_encrypting,
)
from vector_backup_pipeline.engine.errors import (
    BackupError,
    IntegrityError,
    ResourceNotFound,
    StorageError,
)
from vector_backup_pipeline.engine.piped_thread import PipedThread
from vector_backup_pipeline.engine.secrets import SecretText
from vector_backup_pipeline.engine.storage.retries import read_chunks, read_small_file
from vector_backup_pipeline.engine.storage.run_markers import (
    RunMarker,
    create_marker,
    is_marker_alive,
    remove_dead_marker,
)
from vector_backup_pipeline.engine.storage.store import Store, StoredFile, TransientStorageError
from vector_backup_pipeline.engine.timestamps import DEFAULT_TIMESTAMPS, TimestampFormat

# In each failed try, at least one other process has written the file.
_UPDATE_TRIES = 200
_LONGEST_PAUSE = 0.5


@dataclass(eq=False)
class BackupDirectory:
    """The root's own directory or a task's. Names are those of files directly in it."""

    _store: Store
    # The path below the root; empty for the root itself.
    folder: str = ""
    # The format of the timestamps in file names.
    timestamps: TimestampFormat = DEFAULT_TIMESTAMPS
    # Signs the manifests. With a key, an unsigned manifest is refused.
    manifest_key: SecretText | None = None
    encryption: Encryption = NO_ENCRYPTION

    @property
    def location(self) -> str:
        """The absolute path or URL, for messages and results."""
        return self._store.location(self.folder)

    def files(self) -> list[StoredFile]:
        """The files, sorted by name."""
        listing = self._store.list_folder(self.folder)
        return [] if listing is None else listing.files

    def names(self) -> list[str]:
        return [file.name for file in self.files()]

    def stat(self, name: str) -> StoredFile:
        """A regular file; raises `ResourceNotFound` if there is none."""
        return self._store.stat(self._path(name))

    def read(
        self, name: str, offset: int = 0, length: int | None = None, *, version: str | None = None
    ) -> Iterator[bytes]:
        """`length` bytes from `offset` on, or all, in chunks of at most about a MiB.

        Raises:
            ResourceNotFound: there is no such file.
            IntegrityError: it was replaced while it was read, or does not have `version`.
        """
        return read_chunks(self._store, self._path(name), offset, length, version)

    @contextlib.contextmanager
    def create(self, name: str, expected_size: int | None = None) -> Iterator[PendingFile]:
        """Write a new file, encrypted if its name says so. Without a `commit` in the block, nothing
        is stored. `expected_size` in bytes is an estimate, from which object storage derives the
        part size."""
        pending = PendingFile(self._store, self._path(name), expected_size)
        try:
            if name.endswith(ENCRYPTED_SUFFIX):
                pending.encrypt(self.encryption.recipients)
            yield pending
        finally:
            pending.discard()

    def replace(self, name: str, data: bytes) -> None:
        """Write a small file, replacing any file of that name."""
        self._store.put(self._path(name), data)

    def delete(self, name: str) -> None:
        """Remove a file if it exists."""
        self._store.delete(self._path(name))

    def append(self, name: str, text: str) -> None:
        """Append to a text file. No text is lost if several processes append at the same time."""
        section = text.encode()
        written: bytes | None = None

        def appended(data: bytes) -> bytes | None:
            nonlocal written
            if written is not None and data.startswith(written):
                return None  # It was written, and the answer was lost.
            written = data + section
            return written

        self.update(name, appended)

    def update(self, name: str, change: Callable[[bytes], bytes | None]) -> None:
        """Rewrite a small file, created empty if it is missing. `change` returns the new content,
        None to leave it as it is; it is called again if another process was faster."""
        path = self._path(name)
        for attempt in range(_UPDATE_TRIES):
            current = read_small_file(self._store, path)
            if current is None:
                created = self._store.create(path, b"")
                if created is not None and created.lock is not None:
                    created.lock.release()
                continue
            file, data = current
            changed = change(data)
            if changed is None or self._store.put(path, changed, over=file) is not None:
                return
            # A random pause, so that two writers do not meet again. No secret depends on it.
            time.sleep(random.uniform(0, min(_LONGEST_PAUSE, 0.02 * (attempt + 1))))  # noqa: S311
        raise StorageError(
            f"Could not write {self._store.location(path)}: other processes changed "
            f"it during each of {_UPDATE_TRIES} tries. Check which other processes write there."
        )

    def claim(self, name: str, run_id: str) -> RunMarker | None:
        """Create the marker `name` for this process; None if a live process has it."""
        return create_marker(self._store, self._path(name), run_id)

    def claim_is_alive(self, name: str) -> bool:
        """Whether the process of a marker is alive; False if the marker does not exist."""
        return is_marker_alive(self._store, self._path(name))

    def remove_dead_claim(self, name: str) -> None:
        """Remove the marker of a dead process; keep that of a live one."""
        remove_dead_marker(self._store, self._path(name))

    def _path(self, name: str) -> str:
        return f"{self.folder}/{name}" if self.folder else name


class PendingFile:
    """A file being written. It appears with `commit`; then `size` and `sha256` are those of the
    stored bytes."""

    def __init__(self, store: Store, path: str, expected_size: int | None) -> None:
        self._store = store
        self._path = path
        self._upload = store.upload(path, expected_size)
        self._sha256 = hashlib.sha256()
        self.size = 0
        self._is_committing = self._is_committed = False
        self._encryptor: PipedThread | None = None

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    @property
    def encryption(self) -> EncryptionFormat | None:
        return None if self._encryptor is None else "age"

    def encrypt(self, recipients: tuple[str, ...]) -> None:
        """Encrypt all that is written from now on."""
        self._encryptor = start_encrypting(recipients, self._append)

    def write(self, data: bytes) -> None:
        if self._encryptor is None:
            self._append(data)
        else:
            self._encryptor.feed(data)

    def _append(self, data: bytes) -> None:
        self._sha256.update(data)
        self._upload.write(data)
        self.size += len(data)

    def commit(self) -> None:
        """Make the file durable under its name, and check its size. An existing file is kept."""
        if self._encryptor is not None:
            self._encryptor.finish()
        location = self._store.location(self._path)
        if self._stored_size() is not None:
            raise StorageError(f"{location} exists already; it is not overwritten.")
        # From now on, a file of that name was written here, and `discard` may delete it.
        self._is_committing = True
        try:
            self._upload.complete()
        except TransientStorageError:
            # The response may have been lost after the file was completed.
            if self._stored_size() != self.size:
                raise
        size = self._stored_size()
        if size != self.size:
            raise IntegrityError(
                f"{location} has {size} bytes but {self.size} were written to it. Something "
                "else wrote to it, or the storage lost data: check it, and make a new backup."
            )
        self._is_committed = True

    def discard(self) -> None:
        """Remove what was not committed."""
        if self._is_committed:
            return
        if self._encryptor is not None:
            self._encryptor.stop()
        self._upload.abort()
        if self._is_committing:
            with contextlib.suppress(BackupError):  # The error that led here matters more.
                self._store.delete(self._path)

    def _stored_size(self) -> int | None:
        try:
            return self._store.stat(self._path).size
        except ResourceNotFound:
            return None
