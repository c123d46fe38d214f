"""The stored files of a set, read completely and compared with the manifest."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TypeAlias

from vector_backup_pipeline.engine.catalog.contents import (
    BackupSet,
    Contents,
    DamagedSet,
    ManifestSet,
)
from vector_backup_pipeline.engine.errors import BackupError, IntegrityError, ResourceNotFound
from vector_backup_pipeline.engine.incremental.chain import (
    Link,
    chain_of,
    check_link,
    links_of,
    reading,
)
from vector_backup_pipeline.engine.results import (
    FailedTable,
    VerifiedChain,
    VerifiedTable,
    failed_table,
    readable_size,
)
from vector_backup_pipeline.engine.storage.directory import BackupDirectory

# These errors mean that a file is damaged or missing; any other one, that it could not be read.
_DAMAGE = (IntegrityError, ResourceNotFound)
FileErrors: TypeAlias = dict[str, BackupError | None]


@dataclass
class CheckedFiles:
    """The intact and the damaged files, by table. `errors` also has those that could not be read,
    which says nothing about the set; each with its table, None for the set's own. `chain` is that
    of the set; it is empty if it can't be read."""

    tables: dict[str, VerifiedTable | FailedTable] = field(default_factory=dict)
    errors: list[tuple[str | None, BackupError]] = field(default_factory=list)
    chain: list[ManifestSet] = field(default_factory=list)

    @property
    def passed(self) -> bool | None:
        """None if unknown: a file could not be read, and no other one is damaged."""
        if any(isinstance(error, _DAMAGE) for _, error in self.errors):
            return False
        return None if self.errors else True


def check_files(contents: Contents, backup: BackupSet, errors: FileErrors) -> CheckedFiles:
    """Check every file of the set, and of those that it builds on; one that fails does not stop the
    others. `errors` are those of the run so far, by file: several sets may need the same one."""
    checked = CheckedFiles()
    if isinstance(backup, DamagedSet):
        checked.errors.append((None, backup.error))
        return checked
    try:
        checked.chain = chain_of(contents, backup)
    except BackupError as error:
        checked.errors.append((None, error))
    for table in backup.manifest.tables:
        started = time.monotonic()
        # A table whose export failed has no file; the set counts as incomplete then.
        if (file := table.file) is None:
            continue
        own = Link(backup.stamp, table, file)
        try:
            _check_once(contents.directory, own, errors)
            links = links_of(checked.chain, table) if checked.chain else (own,)
            for link in links[1:]:
                with reading(links, link):
                    _check_once(contents.directory, link, errors)
        except BackupError as error:
            checked.errors.append((table.table, error))
            if isinstance(error, _DAMAGE):
                checked.tables[table.table] = failed_table(error, time.monotonic() - started)
        else:
            verified = VerifiedTable(
                source_file=file.name,
                rows=file.rows,
                file_size=readable_size(sum(link.data.bytes for link in links)),
                has_digest=file.has_digest,
                duration=round(time.monotonic() - started, 3),
            )
            if len(links) > 1:
                of_chain = {"rows": table.rows, "files": len(links)}
                verified = VerifiedChain(**{**dict(verified), **of_chain})
            checked.tables[table.table] = verified
    return checked


def _check_once(directory: BackupDirectory, link: Link, errors: FileErrors) -> None:
    """Check the files of a table in one set. Raises as `check_link`."""
    file = f"{directory.location}/{link.data.name}"
    if file not in errors:
        errors[file] = None
        try:
            check_link(directory, link)
        except BackupError as error:
            errors[file] = error
    failure = errors[file]
    if failure is not None:
        raise failure
