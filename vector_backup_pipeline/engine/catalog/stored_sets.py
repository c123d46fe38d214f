"""The state of a backup set: one model for every listing, for `latest` and for retention."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from vector_backup_pipeline.engine.catalog.contents import BackupSet, Contents, DamagedSet
from vector_backup_pipeline.engine.catalog.sources import SourceDatabase
from vector_backup_pipeline.engine.catalog.verdicts import NO_VERDICTS, Verdicts, read_verdicts
from vector_backup_pipeline.engine.file_names import (
    stamp_of_data_file,
    table_of_data_file,
    verdict_name,
)
from vector_backup_pipeline.engine.timestamps import TimestampFormat
from vector_backup_pipeline.parameters.table_names import parse_table_name

State = Literal["complete", "incomplete", "damaged"]
Mode = Literal["full", "incremental"]


@dataclass(frozen=True)
class StoredFile:
    """A data file of a set.

    `table` is its table as in the backup's parameters, `schema_name` and `table_name` are its own.
    `rows` and `bytes` are what was written; `rows` is None if the manifest can't be read.
    `stored_bytes` is the size of the stored file, None if it is missing.
    """

    name: str
    table: str
    schema_name: str
    table_name: str
    rows: int | None
    bytes: int
    stored_bytes: int | None

    @property
    def is_whole(self) -> bool:
        """Whether the file is there with its size; its contents are not read."""
        return self.stored_bytes == self.bytes

    @property
    def identity(self) -> tuple[str, str]:
        return self.schema_name, self.table_name


@dataclass(frozen=True)
class StoredSet:
    """A backup set without its manifest, which may be large. `created_at` is in UTC.

    `says_complete` is what the manifest says. `truncated` are the tables that its run truncated, or
    may have truncated. `source` is None if the manifest can't be read.
    """

    stamp: str
    created_at: datetime
    says_complete: bool
    files: tuple[StoredFile, ...] = ()
    source: SourceDatabase | None = None
    truncated: tuple[str, ...] = ()
    builds_on: str | None = None
    verdicts: Verdicts = NO_VERDICTS

    @property
    def state(self) -> State:
        verified = self.verdicts.verified
        if self.source is None or self.broken_files or (verified and not verified.passed):
            return "damaged"
        return "complete" if self.says_complete else "incomplete"

    @property
    def broken_files(self) -> list[str]:
        """The files that are missing or of another size."""
        return [file.name for file in self.files if not file.is_whole]

    @property
    def emptied(self) -> list[StoredFile]:
        """The files with rows of truncated tables: they may be the only copy."""
        return [file for file in self.files if file.table in self.truncated and file.rows]

    @property
    def mode(self) -> Mode | None:
        if self.source is None:
            return None
        return "full" if self.builds_on is None else "incremental"

    @property
    def age(self) -> tuple[datetime, str]:
        """By what sets are ordered: the later, the greater."""
        return self.created_at, self.stamp

    def date(self, timestamps: TimestampFormat) -> datetime:
        """When it was created, to the second, in the time zone of the settings."""
        return self.created_at.astimezone(timestamps.timezone).replace(microsecond=0)

    def files_named(self, text: str) -> list[StoredFile]:
        """The files of the tables that `text` names: as in the backup's parameters, or by `name` or
        `schema.name`."""
        wanted = parse_table_name(text)
        return [
            file
            for file in self.files
            if parse_table_name(file.table) == wanted
            or (wanted.name == file.table_name and wanted.schema in (None, file.schema_name))
        ]


def stored_sets(contents: Contents) -> list[StoredSet]:
    """The sets of a directory with their verdicts, newest first.

    Raises:
        StorageError: a manifest or a verdict can't be read.
    """
    return [
        replace(each, verdicts=read_verdicts(contents.directory, each.stamp))
        if verdict_name(each.stamp) in contents.sizes
        else each
        for each in sets_without_verdicts(contents)
    ]


def sets_without_verdicts(contents: Contents) -> list[StoredSet]:
    """The sets of a directory, newest first. Raises as `stored_sets`."""
    sets = (stored_set(contents, backup) for backup in contents.sets())
    return sorted(sets, key=lambda each: each.age, reverse=True)


def stored_set(contents: Contents, backup: BackupSet) -> StoredSet:
    """The state of a set, without its verdicts."""
    if isinstance(backup, DamagedSet):
        files = _files_by_name(contents, backup.stamp)
        return StoredSet(backup.stamp, backup.created_at, False, tuple(files))
    manifest = backup.manifest
    may_be_truncated = manifest.truncate in ("done", "pending", "unknown")
    return StoredSet(
        stamp=backup.stamp,
        created_at=backup.created_at,
        says_complete=manifest.complete,
        files=tuple(
            StoredFile(
                name=table.file.name,
                table=table.table,
                schema_name=table.schema_name,
                table_name=table.name,
                rows=table.file.rows,
                bytes=table.file.bytes,
                stored_bytes=contents.sizes.get(table.file.name),
            )
            for table in manifest.tables
            if table.file is not None
        ),
        source=backup.source,
        truncated=tuple(manifest.truncated_tables) if may_be_truncated else (),
        builds_on=manifest.builds_on,
    )


def _files_by_name(contents: Contents, stamp: str) -> Iterator[StoredFile]:
    """The finished data files of a set whose manifest can't be read."""
    for name in sorted(contents.data_files.get(stamp, ())):
        if stamp_of_data_file(name, contents.timestamps):
            size, table = contents.sizes[name], table_of_data_file(name, stamp)
            yield StoredFile(name, table, "", table, None, size, size)
