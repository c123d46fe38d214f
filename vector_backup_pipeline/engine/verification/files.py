"""The stored files of a set, read whole and held against what the set says of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from vector_backup_pipeline.engine.catalog.contents import BackupSet, DamagedSet
from vector_backup_pipeline.engine.errors import BackupError, IntegrityError, ResourceNotFound
from vector_backup_pipeline.engine.manifest import DataFile
from vector_backup_pipeline.engine.results import (
    FailedTable,
    VerifiedTable,
    error_line,
    failed_table,
    readable_size,
)
from vector_backup_pipeline.engine.storage.contract import BackupDirectory
from vector_backup_pipeline.engine.stored_files import check_rows

# What proves that a file is damaged or gone; any other error means that it could not be read.
_DAMAGE = (IntegrityError, ResourceNotFound)


@dataclass
class CheckedFiles:
    """The files of a set, by table: those that are good, and those that are damaged.

    `errors` also has those that could not be read: the storage refused, which says nothing of the
    set.
    """

    tables: dict[str, VerifiedTable | FailedTable] = field(default_factory=dict)
    errors: list[BackupError] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool | None:
        """None if nothing was proven: a file could not be read, and no other one is damaged."""
        if any(isinstance(error, _DAMAGE) for error in self.errors):
            return False
        return None if self.errors else True

    def failed(self, error: BackupError, table: str | None = None) -> None:
        self.errors.append(error)
        self.lines.append(error_line(error, table))


def check_files(directory: BackupDirectory, backup: BackupSet) -> CheckedFiles:
    """Check every file; one that fails does not stop the others."""
    checked = CheckedFiles()
    if isinstance(backup, DamagedSet):
        checked.failed(backup.error)
    for table, check in _checks(directory, backup):
        started = time.monotonic()
        try:
            checked.tables[table] = check()
        except BackupError as error:
            if isinstance(error, _DAMAGE):
                checked.tables[table] = failed_table(error, time.monotonic() - started)
            checked.failed(error, table)
    return checked


def _checks(
    directory: BackupDirectory, backup: BackupSet
) -> Iterator[tuple[str, Callable[[], VerifiedTable]]]:
    if isinstance(backup, DamagedSet):
        return
    for each in backup.manifest.tables:
        # A table whose export failed has no file: the set is incomplete, and says so itself.
        if each.file is not None:
            yield each.table, _Check(directory, each.file)


@dataclass(frozen=True)
class _Check:
    directory: BackupDirectory
    file: DataFile

    def __call__(self) -> VerifiedTable:
        started = time.monotonic()
        check_rows(self.directory, self.file)
        return VerifiedTable(
            source_file=self.file.name,
            rows=self.file.rows,
            file_size=readable_size(self.file.bytes),
            has_digest=self.file.has_digest,
            duration=round(time.monotonic() - started, 3),
        )
