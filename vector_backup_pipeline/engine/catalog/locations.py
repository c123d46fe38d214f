"""Every place under a root where backups are, and what people want to know of each set there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from vector_backup_pipeline.engine.catalog.sets import (
    STAMPS_OF,
    BackupSet,
    Contents,
    DamagedSet,
    FileState,
    ManifestSet,
    look_into,
)
from vector_backup_pipeline.engine.catalog.sources import SourceDatabase
from vector_backup_pipeline.engine.catalog.verdicts import Verdicts, read_verdicts
from vector_backup_pipeline.engine.errors import InvalidParams, ResourceNotFound
from vector_backup_pipeline.engine.file_names import (
    LOG_NAME,
    PENDING_SUFFIX,
    table_of_data_file,
    verdict_name,
)
from vector_backup_pipeline.engine.storage.contract import BackupDirectory, BackupRoot
from vector_backup_pipeline.engine.timestamps import TimestampFormat
from vector_backup_pipeline.parameters.types import check_task_id, is_task_id

SetKind = Literal["manifest", "damaged"]


State = Literal["complete", "incomplete", "damaged"]
Mode = Literal["full", "incremental"]


@dataclass(frozen=True)
class FoundFile:
    """A data file of a set.

    `table` is spelled as in the manifest, `table_name` is its name alone. `rows` and `bytes` are
    what was written, `rows` None if nothing says it. `size` is that of the stored file, None if it
    is missing.
    """

    name: str
    table: str
    table_name: str
    rows: int | None
    bytes: int
    size: int | None

    @property
    def is_whole(self) -> bool:
        return self.size == self.bytes


@dataclass(frozen=True)
class FoundSet:
    """A set, its files and the verdicts on it: the one model for every listing.

    `created_at` in UTC. `says_complete` is what the set itself says. `truncated` are the tables
    that its run truncated, or may have. `source` is None if the manifest can't be read. The
    manifest is not kept: it may be large.
    """

    stamp: str
    created_at: datetime
    kind: SetKind
    says_complete: bool
    files: tuple[FoundFile, ...]
    verdicts: Verdicts
    source: SourceDatabase | None
    truncated: tuple[str, ...]
    builds_on: str | None

    @property
    def state(self) -> State:
        verified = self.verdicts.verified
        if self.kind == "damaged" or self.broken_files or (verified and not verified.passed):
            return "damaged"
        return "complete" if self.says_complete else "incomplete"

    @property
    def broken_files(self) -> list[str]:
        """Those that are missing or of another size; the contents are not read."""
        return [file.name for file in self.files if not file.is_whole]

    @property
    def mode(self) -> Mode | None:
        if self.source is None:
            return None
        return "full" if self.builds_on is None else "incremental"

    def date(self, timestamps: TimestampFormat) -> datetime:
        """When it was made, to the second, in the time zone of the settings."""
        return self.created_at.astimezone(timestamps.timezone).replace(microsecond=0)


@dataclass(frozen=True)
class OtherFile:
    """A data file that belongs to no set. `state`: written by a live run (`running`), part of a
    set that is being `removed`, one of a pair of the older system's that is `adoptable`, or left by
    a dead run or an interrupted prune (`orphan`)."""

    name: str
    state: FileState


@dataclass(frozen=True)
class FoundLocation:
    """A directory with files of ours; `task_id` is None for the root's own. Newest set first.

    `location` is its path or URL, `relative_path` how a restore takes it.
    """

    task_id: str | None
    location: str
    relative_path: str
    sets: tuple[FoundSet, ...]
    other_files: tuple[OtherFile, ...]
    has_log: bool


def find_locations(
    root: BackupRoot,
    timestamps: TimestampFormat,
    *,
    task_id: str | None = None,
    global_only: bool = False,
) -> list[FoundLocation]:
    """The root's own directory first, then the tasks' by name; those without our files are left
    out.

    Raises:
        InvalidParams: the task_id is malformed, or given beside `global_only`.
        ResourceNotFound: the task's directory does not exist.
        StorageError: a directory or a manifest can't be read.
    """
    check_task_id(task_id)
    if task_id is not None and global_only:
        raise InvalidParams(
            "task_id and global_only were both given: backups of a task are not the global ones. "
            "Give one of them."
        )
    return [
        location
        for task, directory in find_places(root, task_id, global_only=global_only)
        if directory is not None
        and (location := _location(root, timestamps, task, directory)) is not None
    ]


def check_root(root: BackupRoot) -> None:
    """Raises `ResourceNotFound` if the root is not there: a mistyped one has no set that could fail
    a verification, and nothing that a prune could free, and all would be green for ever."""
    if root.find_path(root.location) is None:
        raise ResourceNotFound(
            f"There is no directory {root.location}, where all backups should be. Check "
            "VECTOR_BACKUP_ROOT, or that the disk is mounted."
        )


def find_places(
    root: BackupRoot, task_id: str | None = None, *, global_only: bool = False
) -> Iterator[tuple[str | None, BackupDirectory | None]]:
    """The root's own directory, then the tasks', each None if it is not there; or those asked for.

    Raises:
        ResourceNotFound: the task's directory does not exist.
    """
    if task_id is not None:
        yield task_id, root.find(task_id)
        return
    yield None, root.find(None)
    for task in () if global_only else root.task_ids(is_task_id):
        try:
            yield task, root.find(task)
        except ResourceNotFound:
            continue  # Removed since it was listed.


def _location(
    root: BackupRoot, timestamps: TimestampFormat, task: str | None, directory: BackupDirectory
) -> FoundLocation | None:
    contents = look_into(directory, timestamps)
    if not any(_is_ours(name, timestamps) for name in contents.names):
        return None
    found = [found_set(contents, each) for each in contents.sets()]
    found.sort(key=lambda each: (each.created_at, each.stamp), reverse=True)
    return FoundLocation(
        task_id=task,
        location=directory.location,
        relative_path=root.relative_path(directory),
        sets=tuple(found),
        other_files=tuple(other_files(contents, found)),
        has_log=LOG_NAME in contents.names,
    )


def _is_ours(name: str, timestamps: TimestampFormat) -> bool:
    final = name.removesuffix(PENDING_SUFFIX)
    return name == LOG_NAME or any(stamp_of(final, timestamps) for stamp_of in STAMPS_OF)


def found_set(contents: Contents, backup: BackupSet) -> FoundSet:
    """A set as it is listed."""
    manifest = backup.manifest if isinstance(backup, ManifestSet) else None
    return FoundSet(
        stamp=backup.stamp,
        created_at=backup.created_at,
        kind="manifest" if isinstance(backup, ManifestSet) else "damaged",
        says_complete=backup.complete,
        files=tuple(_files(contents, backup)),
        verdicts=(
            read_verdicts(contents.directory, backup.stamp)
            if verdict_name(backup.stamp) in contents.names
            else Verdicts()
        ),
        source=None if isinstance(backup, DamagedSet) else backup.source,
        truncated=tuple(backup.truncated) if isinstance(backup, ManifestSet) else (),
        builds_on=manifest.builds_on if manifest else None,
    )


def _files(contents: Contents, backup: BackupSet) -> Iterator[FoundFile]:
    if isinstance(backup, ManifestSet):
        for table in backup.manifest.tables:
            if (file := table.file) is not None:
                yield FoundFile(
                    name=file.name,
                    table=table.table,
                    table_name=table.name,
                    rows=file.rows,
                    bytes=file.bytes,
                    size=contents.sizes.get(file.name),
                )
        return
    for name in sorted(contents.data_files.get(backup.stamp, ())):
        if (size := contents.sizes.get(name)) is not None:
            table_name = table_of_data_file(name, backup.stamp)
            yield FoundFile(name, table_name, table_name, None, size, size)


def other_files(contents: Contents, found: Sequence[FoundSet]) -> Iterator[OtherFile]:
    """The data files that none of the sets `found` has."""
    in_sets = {file.name for each in found for file in each.files}
    for files in (contents.data_files, contents.unfinished):
        for stamp, names in sorted(files.items()):
            state = contents.state_without_manifest(stamp)
            for name in names:
                if name in contents.names and name not in in_sets:
                    yield OtherFile(name, state)
