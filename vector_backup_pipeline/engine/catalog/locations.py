"""The directories of backups under a root, and the state of each backup set in them.

`StoredSet` is the one model of a set's state, for every listing, the checkup and retention.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from vector_backup_pipeline.engine.catalog.contents import (
    BackupSet,
    Contents,
    DamagedSet,
    FileState,
    read_contents,
    stamp_of_file,
)
from vector_backup_pipeline.engine.catalog.sources import SourceDatabase
from vector_backup_pipeline.engine.catalog.verdicts import NO_VERDICTS, Verdicts, read_verdicts
from vector_backup_pipeline.engine.errors import InvalidParams, ResourceNotFound
from vector_backup_pipeline.engine.file_names import (
    LOG_NAME,
    stamp_of_data_file,
    table_of_data_file,
    verdict_name,
)
from vector_backup_pipeline.engine.storage.contract import BackupDirectory, BackupRoot
from vector_backup_pipeline.engine.timestamps import TimestampFormat
from vector_backup_pipeline.parameters.types import check_task_id, is_task_id

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


@dataclass(frozen=True)
class StoredSet:
    """A backup set without its manifest, which may be large. `created_at` is in UTC.

    `says_complete` is what the manifest says. `truncated` are the tables that its run truncated, or
    may have truncated; those that had rows are `emptied`. `source` is None if the manifest can't be
    read.
    """

    stamp: str
    created_at: datetime
    says_complete: bool
    files: tuple[StoredFile, ...] = ()
    verdicts: Verdicts = NO_VERDICTS
    source: SourceDatabase | None = None
    truncated: tuple[str, ...] = ()
    emptied: tuple[str, ...] = ()
    builds_on: str | None = None

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


@dataclass(frozen=True)
class OtherFile:
    """A data file that belongs to no set."""

    name: str
    state: FileState


@dataclass(frozen=True)
class BackupLocation:
    """A directory with backups; `task_id` is None for the root's own. Newest set first.

    `location` is its path or URL, `relative_path` the same as a restore's `backup_path`.
    """

    task_id: str | None
    location: str
    relative_path: str
    sets: tuple[StoredSet, ...]
    other_files: tuple[OtherFile, ...]
    has_log: bool


def find_locations(
    root: BackupRoot,
    timestamps: TimestampFormat,
    *,
    task_id: str | None = None,
    global_only: bool = False,
) -> list[BackupLocation]:
    """The root's own directory first, then those of tasks by name; only those with backup files.

    Raises:
        InvalidParams: the task_id is malformed, or given with `global_only`.
        ResourceNotFound: the task's directory does not exist.
        StorageError: a directory or a manifest can't be read.
    """
    check_task_id(task_id)
    if task_id is not None and global_only:
        raise InvalidParams("task_id and global_only exclude each other. Give one of them.")
    locations = []
    for task, directory in find_directories(root, task_id, global_only=global_only):
        contents = read_contents(directory, timestamps)
        if not any(n == LOG_NAME or stamp_of_file(n, timestamps) for n in contents.sizes):
            continue
        sets = stored_sets(contents)
        location = BackupLocation(
            task_id=task,
            location=directory.location,
            relative_path=root.relative_path(directory),
            sets=tuple(sets),
            other_files=tuple(other_files(contents, sets)),
            has_log=LOG_NAME in contents.sizes,
        )
        locations.append(location)
    return locations


def check_root(root: BackupRoot) -> None:
    """Raise `ResourceNotFound` if the root does not exist: with a mistyped root, verifications and
    prunes would find no set and always succeed."""
    if root.find_path(root.location) is None:
        raise ResourceNotFound(
            f"There is no directory {root.location}, the root of all backups. Check "
            "VECTOR_BACKUP_ROOT, or that the disk is mounted."
        )


def find_directories(
    root: BackupRoot, task_id: str | None = None, *, global_only: bool = False
) -> Iterator[tuple[str | None, BackupDirectory]]:
    """The backup directories that exist, each with its task: the root's own, then the tasks'; or
    only those asked for.

    Raises:
        ResourceNotFound: the task's directory does not exist.
    """
    tasks = [] if global_only else root.task_ids(is_task_id)
    for task in [None, *tasks] if task_id is None else [task_id]:
        try:
            directory = root.find(task)
        except ResourceNotFound:
            if task_id is not None:
                raise
            continue  # Removed since the tasks were listed.
        if directory is not None:
            yield task, directory


def stored_sets(contents: Contents) -> list[StoredSet]:
    """The sets of a directory, newest first."""
    sets = (stored_set(contents, backup) for backup in contents.sets())
    return sorted(sets, key=lambda each: each.age, reverse=True)


def stored_set(contents: Contents, backup: BackupSet) -> StoredSet:
    has_verdict = verdict_name(backup.stamp) in contents.sizes
    verdicts = read_verdicts(contents.directory, backup.stamp) if has_verdict else NO_VERDICTS
    if isinstance(backup, DamagedSet):
        files = _files_by_name(contents, backup.stamp)
        return StoredSet(backup.stamp, backup.created_at, False, tuple(files), verdicts)
    return StoredSet(
        stamp=backup.stamp,
        created_at=backup.created_at,
        says_complete=backup.complete,
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
            for table in backup.stored_tables
            if table.file is not None
        ),
        verdicts=verdicts,
        source=backup.source,
        truncated=tuple(backup.truncated),
        emptied=tuple(table.table for table in backup.emptied),
        builds_on=backup.manifest.builds_on,
    )


def _files_by_name(contents: Contents, stamp: str) -> Iterator[StoredFile]:
    """The finished data files of a set whose manifest can't be read."""
    for name in sorted(contents.data_files.get(stamp, ())):
        if stamp_of_data_file(name, contents.timestamps):
            size, table = contents.sizes[name], table_of_data_file(name, stamp)
            yield StoredFile(name, table, "", table, None, size, size)


def other_files(contents: Contents, sets: Iterable[StoredSet]) -> Iterator[OtherFile]:
    """The data files that belong to none of the sets."""
    in_sets = {file.name for each in sets for file in each.files}
    for stamp, names in sorted(contents.data_files.items()):
        state = contents.state_without_set(stamp)
        yield from (OtherFile(name, state) for name in sorted(names) if name not in in_sets)
