"""A backup directory opened to be tried: what had to be made for that goes again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime

from vector_backup_pipeline.engine.interrupts import uninterrupted
from vector_backup_pipeline.engine.storage.contract import BackupDirectory, BackupRoot
from vector_backup_pipeline.engine.storage.local import (
    LocalDirectory,
    LocalRoot,
    remove_empty_directories,
)


@contextlib.contextmanager
def opened_for_trial(root: BackupRoot, task_id: str | None) -> Iterator[BackupDirectory]:
    """The backup directory as `root.open` gives it. Directories that were missing are removed
    again, those in which something lies by then excepted.

    Raises:
        ResourceNotFound, StorageError: as `open`.
    """
    missing = root.missing_directories(task_id) if isinstance(root, LocalRoot) else []
    try:
        yield root.open(task_id)
    finally:
        uninterrupted(lambda: remove_empty_directories(missing))


def modified_at(directory: BackupDirectory, name: str) -> datetime | None:
    """When the file was written by the storage's own clock; None where it can't be told."""
    return directory.modified_at(name) if isinstance(directory, LocalDirectory) else None
