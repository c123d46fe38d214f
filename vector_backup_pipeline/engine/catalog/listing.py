"""The list of backups as one JSON document, for the command line and the REST API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, PlainSerializer

from vector_backup_pipeline.engine.catalog.contents import (
    COLLECTION_TABLE,
    EMBEDDING_TABLE,
    FileState,
)
from vector_backup_pipeline.engine.catalog.locations import (
    BackupLocation,
    find_locations,
)
from vector_backup_pipeline.engine.catalog.sources import SourceDatabase, source_labels
from vector_backup_pipeline.engine.catalog.stored_sets import Mode, State, StoredFile, StoredSet
from vector_backup_pipeline.engine.catalog.verdicts import Verdict
from vector_backup_pipeline.engine.file_names import LOG_NAME
from vector_backup_pipeline.engine.record import Record
from vector_backup_pipeline.engine.results import readable_size
from vector_backup_pipeline.engine.storage.contract import BackupRoot
from vector_backup_pipeline.engine.timestamps import TimestampFormat


def _iso(moment: datetime) -> str:
    """With an offset for UTC too, where pydantic writes "Z"."""
    return moment.isoformat()


Passed = Literal["passed", "failed"]
_IsoTime = Annotated[datetime, PlainSerializer(_iso, return_type=str, when_used="json")]


class ListedTable(Record):
    """What was written of a table. `rows` is None if the manifest can't be read."""

    rows: int | None
    bytes: int


class ListedBackup(Record):
    """A backup set. Files and sizes are None where the set has no such file.

    `complete` is true if `state` is. `truncated` are the tables that this set's run truncated, or
    may have truncated. `source_database`, `mode` and `builds_on` are None if the manifest can't be
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
    tables: dict[str, ListedTable]


class ListedFile(Record):
    """A data file that belongs to no set.

    A live run is writing it (`running`), a prune is removing its set (`removed`), it is one of the
    older system's pair (`adoptable`), or a dead run or an interrupted prune left it (`orphan`).
    """

    file: str
    state: FileState


class ListedLocation(Record):
    """A directory of backups, newest first."""

    type: Literal["global", "task"]
    task_id: str | None
    relative_path: str
    backups: list[ListedBackup]
    other_files: list[ListedFile] = Field(default_factory=list)


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


def list_backups(
    root: BackupRoot,
    timestamps: TimestampFormat,
    *,
    task_id: str | None = None,
    global_only: bool = False,
) -> BackupList:
    """The backups of the root and of its tasks, of one task, or of the root alone. Raises as
    `find_locations`."""
    locations = find_locations(root, timestamps, task_id=task_id, global_only=global_only)
    return as_list(locations, timestamps)


def as_list(locations: Sequence[BackupLocation], timestamps: TimestampFormat) -> BackupList:
    labels = labels_of(locations)
    in_root = sum(len(each.sets) for each in locations if each.task_id is None)
    in_all = sum(len(each.sets) for each in locations)
    return BackupList(
        backup_locations=[
            ListedLocation(
                type="global" if location.task_id is None else "task",
                task_id=location.task_id,
                relative_path=location.relative_path,
                backups=[_backup(each, location, timestamps, labels) for each in location.sets],
                other_files=[ListedFile(file=f.name, state=f.state) for f in location.other_files],
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
    """How the source databases of a list are shown."""
    sets = (each for location in locations for each in location.sets)
    return source_labels(each.source for each in sets if each.source is not None)


def _backup(
    backup: StoredSet,
    location: BackupLocation,
    timestamps: TimestampFormat,
    labels: Mapping[SourceDatabase, str],
) -> ListedBackup:
    def passed(verdict: Verdict | None) -> Passed | None:
        return None if verdict is None else "passed" if verdict.passed else "failed"

    def moment(verdict: Verdict | None) -> datetime | None:
        return verdict.at.astimezone(timestamps.timezone) if verdict else None

    def size(file: StoredFile | None) -> str | None:
        return readable_size(file.stored_bytes) if file and file.stored_bytes is not None else None

    verified, drill = backup.verdicts.verified, backup.verdicts.drill
    by_table = {file.table_name: file for file in reversed(backup.files)}
    collection, embedding = by_table.get(COLLECTION_TABLE), by_table.get(EMBEDDING_TABLE)
    return ListedBackup(
        timestamp=backup.stamp,
        collection_file=collection.name if collection else None,
        embedding_file=embedding.name if embedding else None,
        files=[file.name for file in backup.files],
        collection_size=size(collection),
        embedding_size=size(embedding),
        backup_date=backup.date(timestamps),
        complete=backup.state == "complete",
        has_log=location.has_log,
        log_file=LOG_NAME if location.has_log else None,
        state=backup.state,
        verified=passed(verified),
        verified_at=moment(verified),
        drill=passed(drill),
        drilled_at=moment(drill),
        truncated=list(backup.truncated),
        source_database=labels[backup.source] if backup.source else None,
        mode=backup.mode,
        builds_on=backup.builds_on,
        tables={f.table: ListedTable(rows=f.rows, bytes=f.bytes) for f in backup.files},
    )
