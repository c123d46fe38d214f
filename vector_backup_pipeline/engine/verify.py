"""Reading stored files back and holding them against what was written."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from vector_backup_pipeline.engine.errors import IntegrityError
from vector_backup_pipeline.engine.storage.contract import BackupDirectory


class StoredBytes:
    """A stored file as it is read: its chunks, and the size and SHA-256 of those read so far."""

    def __init__(self, directory: BackupDirectory, name: str) -> None:
        self._directory = directory
        self._name = name
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def chunks(self) -> Iterator[bytes]:
        for chunk in self._directory.read(self._name):
            self.size += len(chunk)
            self._hash.update(chunk)
            yield chunk


def check_stored_file(directory: BackupDirectory, name: str, size: int, sha256: str) -> None:
    """Read `name` whole and compare its size and hash.

    Raises:
        IntegrityError: they differ.
        ResourceNotFound, StorageError: it can't be read.
    """
    stored = StoredBytes(directory, name)
    for _ in stored.chunks():
        pass
    if (stored.size, stored.sha256) != (size, sha256):
        raise IntegrityError(
            f"{directory.location}/{name} is not what was written: {stored.size} bytes with "
            f"SHA-256 {stored.sha256}, expected {size} bytes with {sha256}. Check the disk, and "
            "make a new backup."
        )
