"""The backups under a root as every door lists them: one JSON document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, PlainSerializer, SerializerFunctionWrapHandler, model_serializer

from vector_backup_pipeline.engine.catalog.locations import (
    FoundFile,
    FoundLocation,
    FoundSet,
    Mode,
    State,
    find_locations,
)
from vector_backup_pipeline.engine.catalog.sets import COLLECTION_TABLE, EMBEDDING_TABLE, FileState
from vector_backup_pipeline.engine.catalog.sources import SourceDatabase, source_labels
from vector_backup_pipeline.engine.catalog.verdicts import Verdict
from vector_backup_pipeline.engine.file_names import LOG_NAME
from vector_backup_pipeline.engine.record import Record
from vector_backup_pipeline.engine.results import readable_size
from vector_backup_pipeline.engine.storage.contract import BackupRoot
from vector_backup_pipeline.engine.timestamps import TimestampFormat


def _iso(moment: datetime) -> str:
    """With its offset, also where that is UTC's, for which pydantic writes "Z"."""
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
    may have. `source_database`, `mode` and `builds_on` are None if the manifest can't be read.
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
    """A data file that belongs to no set."""

    file: str
    state: FileState


class ListedLocation(Record):
    """A directory of backups, newest first. Without `other_files` JSON does not have that key."""

    type: Literal["global", "task"]
    task_id: str | None
    relative_path: str
    backups: list[ListedBackup]
    other_files: list[ListedFile] = Field(default_factory=list)

    @model_serializer(mode="wrap")
    def _without_empty_other_files(self, serialize: SerializerFunctionWrapHandler) -> Any:
        told = serialize(self)
        if not self.other_files:
            told.pop("other_files", None)
        return told


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
    """The backups of the root and of its tasks; of one task, or of the root alone.

    Raises:
        As `find_locations`.
    """
    found = find_locations(root, timestamps, task_id=task_id, global_only=global_only)
    return as_list(found, timestamps)


def as_list(locations: list[FoundLocation], timestamps: TimestampFormat) -> BackupList:
    """Locations in the order they are in."""
    labels = labels_of(locations)
    in_root = sum(len(each.sets) for each in locations if each.task_id is None)
    in_all = sum(len(each.sets) for each in locations)
    return BackupList(
        backup_locations=[_location(each, timestamps, labels) for each in locations],
        summary=ListSummary(
            total_locations=len(locations),
            total_backup_sets=in_all,
            global_backups=in_root,
            task_backups=in_all - in_root,
            scan_time=timestamps.now().replace(microsecond=0),
        ),
    )


def labels_of(locations: Sequence[FoundLocation]) -> dict[SourceDatabase, str]:
    """How the source databases of a list are shown."""
    sets = (each for location in locations for each in location.sets)
    return source_labels(each.source for each in sets if each.source is not None)


def _location(
    found: FoundLocation, timestamps: TimestampFormat, labels: Mapping[SourceDatabase, str]
) -> ListedLocation:
    return ListedLocation(
        type="global" if found.task_id is None else "task",
        task_id=found.task_id,
        relative_path=found.relative_path,
        backups=[_backup(each, found, timestamps, labels) for each in found.sets],
        other_files=[ListedFile(file=each.name, state=each.state) for each in found.other_files],
    )


def _backup(
    found: FoundSet,
    location: FoundLocation,
    timestamps: TimestampFormat,
    labels: Mapping[SourceDatabase, str],
) -> ListedBackup:
    verified, drill = found.verdicts.verified, found.verdicts.drill
    collection, embedding = _of_table(found, COLLECTION_TABLE), _of_table(found, EMBEDDING_TABLE)
    return ListedBackup(
        timestamp=found.stamp,
        collection_file=collection.name if collection else None,
        embedding_file=embedding.name if embedding else None,
        files=[file.name for file in found.files],
        collection_size=_size(collection),
        embedding_size=_size(embedding),
        backup_date=found.date(timestamps),
        complete=found.state == "complete",
        has_log=location.has_log,
        log_file=LOG_NAME if location.has_log else None,
        state=found.state,
        verified=_passed(verified),
        verified_at=verified.at.astimezone(timestamps.timezone) if verified else None,
        drill=_passed(drill),
        drilled_at=drill.at.astimezone(timestamps.timezone) if drill else None,
        truncated=list(found.truncated),
        source_database=labels[found.source] if found.source else None,
        mode=found.mode,
        builds_on=found.builds_on,
        tables={f.table: ListedTable(rows=f.rows, bytes=f.bytes) for f in found.files},
    )


def _passed(verdict: Verdict | None) -> Passed | None:
    if verdict is None:
        return None
    return "passed" if verdict.passed else "failed"


def _of_table(found: FoundSet, table: str) -> FoundFile | None:
    return next((file for file in found.files if file.table_name == table), None)


def _size(file: FoundFile | None) -> str | None:
    return None if file is None or file.size is None else readable_size(file.size)
