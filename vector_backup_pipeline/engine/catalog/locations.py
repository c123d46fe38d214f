"""The backup directories under a root, and the list of their sets as one JSON document."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, PlainSerializer

from vector_backup_pipeline.engine.catalog.contents import (
    COLLECTION_TABLE,
    EMBEDDING_TABLE,
    Contents,
    read_contents,
    stamp_of_file,
)
from vector_backup_pipeline.engine.catalog.sources import SourceDatabase, source_labels
from vector_backup_pipeline.engine.catalog.stored_sets import (
    Mode,
    State,
    StoredFile,
    StoredSet,
    Verdict,
    stored_sets,
)
from vector_backup_pipeline.engine.errors import InvalidParams, ResourceNotFound
from vector_backup_pipeline.engine.file_names import LOG_NAME
from vector_backup_pipeline.engine.record import Record
from vector_backup_pipeline.engine.results import OtherFile, readable_size
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.engine.timestamps import TimestampFormat
from vector_backup_pipeline.parameters.types import check_task_id


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
    root: BackupRoot, *, task_id: str | None = None, global_only: bool = False
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
        contents = read_contents(directory)
        if not any(n == LOG_NAME or stamp_of_file(n, root.timestamps) for n in contents.sizes):
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


def other_files(contents: Contents, sets: Iterable[StoredSet]) -> Iterator[OtherFile]:
    """The data files that belong to none of the sets."""
    in_sets = {file.name for backup_set in sets for file in backup_set.all_files}
    for stamp, names in sorted(contents.data_files.items()):
        state = contents.state_without_set(stamp)
        yield from (
            OtherFile(file=name, state=state) for name in sorted(names) if name not in in_sets
        )


def check_root(root: BackupRoot) -> None:
    """Raise `ResourceNotFound` if the root does not exist: with a mistyped root, verifications and
    prunes would find no set and always succeed."""
    if root.find_path(root.location) is None:
        raise ResourceNotFound(
            f"There is no directory {root.location}, the root of all backups. Check "
            "VECTOR_BACKUP_ROOT, or that the disk is mounted."
        )


def find_directory(
    root: BackupRoot, backup_path: str | None, task_id: str | None
) -> BackupDirectory:
    """The directory at that path, or else of that task, or else the root's own. Raises
    `ResourceNotFound` if it does not exist."""
    directory = root.find_path(backup_path) if backup_path else root.find(task_id)
    if directory is None:
        raise ResourceNotFound(
            f"There is no backup directory {backup_path or task_id or root.default_path} under "
            f"{root.location}. vector-backup list shows the existing ones."
        )
    return directory


def find_directories(
    root: BackupRoot, task_id: str | None = None, *, global_only: bool = False
) -> Iterator[tuple[str | None, BackupDirectory]]:
    """The existing backup directories, each with its task: the root's own, then the tasks'; or only
    the requested ones. Raises `ResourceNotFound` if the task's directory does not exist."""
    tasks = [] if global_only else root.task_ids()
    for task in [None, *tasks] if task_id is None else [task_id]:
        try:
            directory = root.find(task)
        except ResourceNotFound:
            if task_id is not None:
                raise
            continue  # Removed since the tasks were listed.
        if directory is not None:
            yield task, directory


Passed = Literal["passed", "failed"]
# With an offset for UTC too, where pydantic writes "Z".
_ISO = PlainSerializer(lambda moment: moment.isoformat(), return_type=str, when_used="json")
_IsoTime = Annotated[datetime, _ISO]


class ListedTable(Record):
    """The backup of a table. `rows` is null if the manifest cannot be read."""

    rows: int | None
    bytes: int


class ListedBackup(Record):
    """A backup set. Files and sizes are null if the set has no such file.

    `complete` is true if `state` is. `truncated` are the tables that this set's run truncated, or
    may have truncated. `source_database`, `mode` and `builds_on` are null if the manifest cannot be
    read.
    """

    timestamp: str
    collection_file: str | None
    embedding_file: str | None
    files: list[str]
    collection_size: str | None
    embedding_size: str | None
    backup_date: _IsoTime
    complete: bool
    has_log: bool
    log_file: str | None
    state: State
    verified: Passed | None
    verified_at: _IsoTime | None
    drill: Passed | None
    drilled_at: _IsoTime | None
    truncated: list[str]
    source_database: str | None
    mode: Mode | None
    builds_on: str | None
    tables: Mapping[str, ListedTable]


class ListedLocation(Record):
    """A directory of backups, newest first."""

    type: Literal["global", "task"]
    task_id: str | None
    relative_path: str
    backups: list[ListedBackup]
    other_files: list[OtherFile] = Field(default_factory=list)


class ListSummary(Record):
    """`scan_time` is when the list was made."""

    total_locations: int
    total_backup_sets: int
    global_backups: int
    task_backups: int
    scan_time: _IsoTime


class BackupList(Record):
    """All backups under a root."""

    backup_locations: list[ListedLocation]
    summary: ListSummary

    def as_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json")


def list_backups(locations: Sequence[BackupLocation], timestamps: TimestampFormat) -> BackupList:
    """The backups of these locations."""
    labels = labels_of(locations)
    in_root = sum(len(location.sets) for location in locations if location.task_id is None)
    in_all = sum(len(location.sets) for location in locations)
    return BackupList(
        backup_locations=[
            ListedLocation(
                type="global" if location.task_id is None else "task",
                task_id=location.task_id,
                relative_path=location.relative_path,
                backups=[
                    listed_backup(s, timestamps, labels, location.has_log) for s in location.sets
                ],
                other_files=list(location.other_files),
            )
            for location in locations
        ],
        summary=ListSummary(
            total_locations=len(locations),
            total_backup_sets=in_all,
            global_backups=in_root,
            task_backups=in_all - in_root,
            scan_time=timestamps.now().replace(microsecond=0),
        ),
    )


def labels_of(locations: Sequence[BackupLocation]) -> dict[SourceDatabase, str]:
    return source_labels(s.source for location in locations for s in location.sets)


def listed_backup(
    backup: StoredSet,
    timestamps: TimestampFormat,
    labels: Mapping[SourceDatabase, str],
    has_log: bool,
) -> ListedBackup:
    """The set as it is listed; `labels` are the displayed names of the source databases."""

    def passed(verdict: Verdict | None) -> Passed | None:
        return None if verdict is None else "passed" if verdict.passed else "failed"

    def moment(verdict: Verdict | None) -> datetime | None:
        return verdict.at.astimezone(timestamps.timezone) if verdict else None

    def size(file: StoredFile | None) -> str | None:
        return readable_size(file.stored_bytes) if file and file.stored_bytes is not None else None

    by_table = {file.table_name: file for file in reversed(backup.files)}
    collection, embedding = by_table.get(COLLECTION_TABLE), by_table.get(EMBEDDING_TABLE)
    return ListedBackup(
        timestamp=backup.stamp,
        collection_file=collection.name if collection else None,
        embedding_file=embedding.name if embedding else None,
        files=[file.name for file in backup.all_files],
        collection_size=size(collection),
        embedding_size=size(embedding),
        backup_date=backup.date(timestamps),
        complete=backup.state == "complete",
        has_log=has_log,
        log_file=LOG_NAME if has_log else None,
        state=backup.state,
        verified=passed(backup.verified),
        verified_at=moment(backup.verified),
        drill=passed(backup.drill),
        drilled_at=moment(backup.drill),
        truncated=list(backup.truncated),
        source_database=labels[backup.source] if backup.source else None,
        mode=backup.mode,
        builds_on=backup.builds_on,
        tables={f.table: ListedTable(rows=f.rows, bytes=f.bytes) for f in backup.files},
    )
