"""What a run tells its caller: the same object in the manifest, the UI and every door."""

from __future__ import annotations

from datetime import datetime
from types import NoneType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar, get_args, get_origin

from pydantic import Field

from vector_backup_pipeline.engine.errors import BackupError
from vector_backup_pipeline.engine.record import Record

_R = TypeVar("_R", bound="RunResult")

_UNITS = ("B", "KB", "MB", "GB", "TB", "PB")


class RunResult(Record):
    """What the results of all operations have in common. Each also has `errors` and `timestamp`."""

    # Of a refused run, where it is not the empty value of the field's type.
    _of_refused: ClassVar[dict[str, object]] = {}

    if TYPE_CHECKING:
        # Declared by each model, as its last field.
        timestamp: datetime

    @classmethod
    def refused(cls: type[_R], error: BackupError, at: datetime) -> _R:
        """The result of a run that was refused before it began."""
        required = {k: f.annotation for k, f in cls.model_fields.items() if f.is_required()}
        own = {"errors": [error_line(error)], "timestamp": at.replace(microsecond=0)}
        own |= cls._of_refused
        empty = {key: _empty(kind) for key, kind in required.items() if key not in own}
        return cls.model_validate(empty | own)

    def as_json(self) -> dict[str, Any]:
        """The result as JSON types."""
        return self.model_dump(mode="json") | {"timestamp": self.timestamp.isoformat()}


class ExportedTable(Record):
    """A table whose file is complete and durable. `duration` in seconds."""

    success: Literal[True] = True
    row_count: int
    file_size: str
    backup_file: str
    duration: float


class FailedTable(Record):
    success: Literal[False] = False
    error_type: str
    error: str
    duration: float


class TruncatedTable(Record):
    success: Literal[True] = True
    rows_before: int
    rows_after: int
    duration: float


class TruncateFailure(Record):
    """A table that was not emptied, or (`outcome` unknown) of which nobody can tell."""

    success: Literal[False] = False
    error_type: str
    error: str
    outcome: Literal["not_truncated", "unknown"]
    duration: float


class BackupResult(RunResult):
    """The result of a run. Table names are the caller's own spelling."""

    backup_performed: bool
    truncate_performed: bool
    backup_directory: str | None
    tables_backed_up: dict[str, ExportedTable | FailedTable]
    truncate_results: dict[str, TruncatedTable | TruncateFailure]
    # Results in the manifests of earlier versions have none.
    notices: list[str] = Field(default_factory=list)
    errors: list[str]
    duration: float
    timestamp: datetime


class BackupInfo(Record):
    """The set that was restored from. `backup_date` is when it was made."""

    backup_path: str
    timestamp: str
    backup_date: datetime


class RestoredTable(Record):
    """A table whose rows are in the target. `duration` in seconds, of loading alone.

    `digest_matches` is None where no digest can be compared: rows were chosen, skipped or
    replaced, or the older system wrote the file.
    """

    success: Literal[True] = True
    source_file: str
    rows_restored: int
    file_size: str
    duration: float
    digest_matches: bool | None


class Recall(Record):
    """How many of the ten true nearest neighbours a search finds, from 0 to 1, over some probes.

    `index` is None if the table could not be looked at; `metric` is pgvector's operator. `recall`
    is None when nothing was measured, and `note` says why.
    """

    table: str
    column: str
    index: str | None
    metric: str
    dimensions: list[int]
    probes: int
    recall: float | None
    seconds: float
    note: str | None = None


class RestoreResult(RunResult):
    """The result of a restore. Tables are named as in the backup, indexes as in the target.

    `outcome` is unknown when the answer to COMMIT was lost and no server could tell.
    """

    _of_refused: ClassVar[dict[str, object]] = {"outcome": "not_restored"}

    restore_performed: bool
    outcome: Literal["restored", "not_restored", "unknown"]
    truncate_performed: bool
    backup_info: BackupInfo | None
    truncate_results: dict[str, TruncatedTable | TruncateFailure]
    restore_results: dict[str, RestoredTable | FailedTable]
    not_recreated: dict[str, list[str]]
    recall_at_10: list[Recall]
    notices: list[str]
    errors: list[str]
    duration: float
    timestamp: datetime

    def as_json(self) -> dict[str, Any]:
        told = super().as_json()
        if self.backup_info is not None:
            told["backup_info"]["backup_date"] = self.backup_info.backup_date.isoformat()
        return told


class VerifiedTable(Record):
    """A stored file that is what was written. `rows` is counted in the file, not taken on trust.

    `has_digest` is False for the older system's files, which left nothing to compare with.
    """

    success: Literal[True] = True
    source_file: str
    rows: int
    file_size: str
    has_digest: bool
    duration: float


class Drill(Record):
    """A restore test: the set was restored into a database of its own, proven there, and dropped.

    `drilled_at` is None in files of earlier versions.
    """

    passed: bool
    drilled_at: datetime | None = None
    server: str | None
    restore_results: dict[str, RestoredTable | FailedTable]
    not_recreated: dict[str, list[str]]
    recall_at_10: list[Recall]
    notices: list[str]
    errors: list[str]
    duration: float


class SetVerdict(Record):
    """The verification of one set.

    `files_passed` is None when the stored files could not be read; `drill` when no restore test
    was made. `passed` is true when all that was asked for was done, and the set is good.
    """

    backup_path: str
    timestamp: str
    backup_date: datetime | None
    complete: bool
    files_passed: bool | None
    passed: bool
    verified_at: datetime
    tool_version: str
    tables: dict[str, VerifiedTable | FailedTable]
    drill: Drill | None
    errors: list[str]


class VerifyResult(RunResult):
    """The result of a verification, over all sets that were asked for, oldest first."""

    verified: bool
    sets: list[SetVerdict]
    notices: list[str]
    errors: list[str]
    duration: float
    timestamp: datetime


class UnreadableRow(Record):
    """Why the row that begins in `line` of a file can't be read."""

    line: int
    reason: str


class AdoptedFile(Record):
    """A file of the older system that can be read."""

    success: Literal[True] = True
    source_file: str
    rows: int
    file_size: str


class UnreadableFile(Record):
    """A file of the older system that can't be adopted. Of many `unreadable_rows` the first are
    listed; `unreadable_count` counts all."""

    success: Literal[False] = False
    source_file: str
    error_type: str
    error: str
    unreadable_count: int
    unreadable_rows: list[UnreadableRow]


class AdoptedPair(Record):
    """A pair of the older system's files. `adoptable` is the state of a readable one in a dry run;
    `task_id` is None for the root's own."""

    task_id: str | None
    backup_path: str
    timestamp: str
    state: Literal["adopted", "adoptable", "not_adopted"]
    tables: dict[str, AdoptedFile | UnreadableFile]


class AdoptResult(RunResult):
    """The result of an adoption. `adopt_performed` if a manifest was written."""

    adopt_performed: bool
    dry_run: bool
    pairs: list[AdoptedPair]
    notices: list[str]
    errors: list[str]
    duration: float
    timestamp: datetime


class KeptSet(Record):
    """A set that stays, and everything that keeps it."""

    timestamp: str
    reasons: list[str]


class RemovedSet(Record):
    """What was taken away, or would be: `bytes` in all. Without a manifest among `files` they were
    orphans."""

    timestamp: str
    reasons: list[str]
    files: list[str]
    bytes: int


class LeftFile(Record):
    """A data file that belongs to no set and is still there; `state` as the list has it."""

    file: str
    state: str


class PrunedLocation(Record):
    """What became of one place; `task_id` is None for the root's own. Newest kept set first.

    `finished` are removals that an earlier prune had begun.
    """

    task_id: str | None
    backup_path: str
    kept: list[KeptSet]
    removed: list[RemovedSet]
    finished: list[RemovedSet]
    other_files: list[LeftFile]
    bytes_freed: int
    errors: list[str]


class EndedUpload(Record):
    """An upload that a killed run left unfinished. `size` in bytes, where the store says it."""

    location: str
    started_at: datetime
    size: int | None


class PruneResult(RunResult):
    """The result of a prune. After a dry run, what another one would do: `removed` is still there.

    `rules` are those that it went by, in words.
    """

    pruned: bool
    dry_run: bool
    rules: str
    locations: list[PrunedLocation]
    bytes_freed: int
    abandoned_uploads: list[EndedUpload]
    notices: list[str]
    errors: list[str]
    duration: float
    timestamp: datetime


def _empty(kind: Any) -> Any:
    """None where the type allows it, else false, 0, or an empty text, list or dict."""
    return None if NoneType in get_args(kind) else (get_origin(kind) or kind)()


def failed_table(error: BackupError, duration: float) -> FailedTable:
    return FailedTable(
        error_type=error.error_type, error=error.message, duration=round(duration, 3)
    )


def readable_size(size: int) -> str:
    """`size` bytes in 1024-based units with one decimal: `209.0 B`, `764.0 KB`."""
    number, unit = float(size), _UNITS[0]
    for unit in _UNITS:
        # What would round up to "1024.0" belongs to the next unit.
        if number < 1023.95 or unit == _UNITS[-1]:
            break
        number /= 1024
    return f"{number:.1f} {unit}"


def error_line(error: BackupError, table: str | None = None) -> str:
    where = f"{table}: " if table else ""
    return f"{where}{error.error_type}: {error.message}"
