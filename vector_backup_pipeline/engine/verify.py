"""Reading stored files back and holding them against what was written."""

from __future__ import annotations

import hashlib

from vector_backup_pipeline.engine.errors import IntegrityError
from vector_backup_pipeline.engine.storage.contract import BackupDirectory


def check_stored_file(directory: BackupDirectory, name: str, size: int, sha256: str) -> None:
    """Read `name` whole and compare its size and hash.

    Raises:
        IntegrityError: they differ.
        ResourceNotFound, StorageError: it can't be read.
    """
    found_size, found_hash = 0, hashlib.sha256()
    for chunk in directory.read(name):
        found_size += len(chunk)
        found_hash.update(chunk)
    if (found_size, found_hash.hexdigest()) != (size, sha256):
        raise IntegrityError(
            f"{directory.location}/{name} is not what was written: {found_size} bytes with SHA-256 "
            f"{found_hash.hexdigest()}, expected {size} bytes with {sha256}. Check the disk, and "
            "make a new backup."
        )
