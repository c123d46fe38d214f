"""The stored files of a set, read completely and compared with the manifest."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from vector_backup_pipeline.engine.catalog.contents import BackupSet, DamagedSet
from vector_backup_pipeline.engine.errors import BackupError, IntegrityError, ResourceNotFound
from vector_backup_pipeline.engine.results import (
    FailedTable,
    VerifiedTable,
    failed_table,
    readable_size,
)
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.stored_files import check_rows

# These errors mean that a file is damaged or missing; any other one, that it could not be read.
_DAMAGE = (IntegrityError, ResourceNotFound)


@dataclass
class CheckedFiles:
    """The intact and the damaged files, by table. `errors` also has those that could not be read,
    which says nothing about the set; each with its table, None for the set's own."""

    tables: dict[str, VerifiedTable | FailedTable] = field(default_factory=dict)
    errors: list[tuple[str | None, BackupError]] = field(default_factory=list)

    @property
    def passed(self) -> bool | None:
        """None if unknown: a file could not be read, and no other one is damaged."""
        if any(isinstance(error, _DAMAGE) for _, error in self.errors):
            return False
        return None if self.errors else True


def check_files(directory: BackupDirectory, backup: BackupSet) -> CheckedFiles:
    """Check every file; one that fails does not stop the others."""
    checked = CheckedFiles()
    if isinstance(backup, DamagedSet):
        checked.errors.append((None, backup.error))
        return checked
    for table in backup.manifest.tables:
        started = time.monotonic()
        # A table whose export failed has no file; the set counts as incomplete then.
        if (file := table.file) is None:
            continue
        try:
            check_rows(directory, file)
        except BackupError as error:
            checked.errors.append((table.table, error))
            if isinstance(error, _DAMAGE):
                checked.tables[table.table] = failed_table(error, time.monotonic() - started)
        else:
            checked.tables[table.table] = VerifiedTable(
                source_file=file.name,
                rows=file.rows,
                file_size=readable_size(file.bytes),
                has_digest=file.has_digest,
                duration=round(time.monotonic() - started, 3),
            )
    return checked
