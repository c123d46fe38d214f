"""The results of runs: the same object in the manifest, the UI, the API and the command line.

Tables are named as the caller or the backup spells them. Every `duration` is in seconds, sizes are
in bytes unless they are text.
"""

from datetime import datetime
from typing import Any, Literal, TypeVar

from pydantic import Field

from vector_backup_pipeline.engine.errors import BackupError
from vector_backup_pipeline.engine.record import Record

_R = TypeVar("_R", bound="RunResult")

_UNITS = ("B", "KB", "MB", "GB", "TB", "PB")


class RunResult(Record):
    """What all results have in common. The defaults are those of a refused run."""

    notices: list[str] = Field(default_factory=list)
    errors: list[str] = Field(default_factory=list)
    duration: float = 0.0
    timestamp: datetime

    @classmethod
    def refused(cls: type[_R], error: BackupError, at: datetime) -> _R:
        """The result of a run that was refused before it started."""
        return cls(errors=[error_line(error)], timestamp=at.replace(microsecond=0))

    def as_json(self) -> dict[str, Any]:
        """The result as JSON types, with the common fields last."""
        values = self.model_dump(mode="json") | {"timestamp": self.timestamp.isoformat()}
        common = {key: values.pop(key) for key in RunResult.model_fields}
        return values | common


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
    """A table that was not truncated, or whose truncation is `unknown`."""

    success: Literal[False] = False
    error_type: str
    error: str
    outcome: Literal["not_truncated", "unknown"]
    duration: float


class ExportedTable(Record):
    """A table whose file is complete and durable."""

    success: Literal[True] = True
    row_count: int
    file_size: str
    backup_file: str
    duration: float


class IncrementalTable(ExportedTable):
    """A table of a run whose mode was not full. `rows_exported` are in its file, `rows_removed` are
    those of `builds_on` that are gone; `reason` says why it is full."""

    mode: Literal["full", "incremental"]
    builds_on: str | None
    rows_exported: int
    rows_removed: int | None
    reason: str | None


class BackupResult(RunResult):
    backup_performed: bool = False
    truncate_performed: bool = False
    backup_directory: str | None = None
    tables_backed_up: dict[str, IncrementalTable | ExportedTable | FailedTable] = Field(
        default_factory=dict
    )
    truncate_results: dict[str, TruncatedTable | TruncateFailure] = Field(default_factory=dict)


class BackupInfo(Record):
    """The set that was restored, and its creation time."""

    backup_path: str
    timestamp: str
    backup_date: datetime


class RestoredTable(Record):
    """A table whose rows are in the target. `duration` is that of the load only.

    `digest_matches` is null if digests cannot be compared: rows were selected, skipped or replaced,
    or the older system wrote the file.
    """

    success: Literal[True] = True
    source_file: str
    rows_restored: int
    file_size: str
    duration: float
    digest_matches: bool | None


class Recall(Record):
    """The fraction of the ten true nearest neighbors that searches found, 0 to 1, over the probes.

    `index` is null if the table could not be read; `metric` is pgvector's operator. `recall` is
    null if nothing was measured, and `note` says why.
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
    """Indexes are named as in the target. `outcome` is `unknown` if the connection was lost during
    COMMIT and the server could not tell whether it committed."""

    restore_performed: bool = False
    outcome: Literal["restored", "not_restored", "unknown"] = "not_restored"
    truncate_performed: bool = False
    backup_info: BackupInfo | None = None
    truncate_results: dict[str, TruncatedTable | TruncateFailure] = Field(default_factory=dict)
    restore_results: dict[str, RestoredTable | FailedTable] = Field(default_factory=dict)
    not_recreated: dict[str, list[str]] = Field(default_factory=dict)
    recall_at_10: list[Recall] = Field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        result = super().as_json()
        if self.backup_info is not None:
            result["backup_info"]["backup_date"] = self.backup_info.backup_date.isoformat()
        return result


class ReadableFile(Record):
    """A file whose rows could all be read."""

    success: Literal[True] = True
    source_file: str
    rows: int
    file_size: str


class VerifiedTable(ReadableFile):
    """An intact file. `has_digest` is False for the older system's files, which left no digest to
    compare."""

    has_digest: bool
    duration: float


class VerifiedChain(VerifiedTable):
    """A table of an incremental set: `rows` are all of its rows, which are in `files` data files of
    the chain; `file_size` is that of these files."""

    files: int


class Drill(Record):
    """A restore test: the set was restored into a temporary database, and its rows were compared.

    `drilled_at` is null in files of earlier versions.
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

    `files_passed` is null if the stored files could not be read, and `drill` if no restore test was
    run. `passed` is true if all requested checks were run and passed.
    """

    backup_path: str
    timestamp: str
    backup_date: datetime | None
    complete: bool
    files_passed: bool | None
    passed: bool
    verified_at: datetime
    tool_version: str
    tables: dict[str, VerifiedChain | VerifiedTable | FailedTable]
    drill: Drill | None
    errors: list[str]


class VerifyResult(RunResult):
    """Sets are listed oldest first."""

    verified: bool = False
    sets: list[SetVerdict] = Field(default_factory=list)


class UnreadableRow(Record):
    """Why the row that begins in `line` of a file cannot be read."""

    line: int
    reason: str


class UnreadableFile(Record):
    """A file of the older system that cannot be adopted, with the first of its unreadable rows."""

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
    tables: dict[str, ReadableFile | UnreadableFile]


class AdoptResult(RunResult):
    """`adopt_performed` is true if a manifest was written."""

    adopt_performed: bool = False
    dry_run: bool = False
    pairs: list[AdoptedPair] = Field(default_factory=list)


class ConsolidateResult(RunResult):
    """`set_timestamp` is the new set's, null if there is none. `chain` are the sets that it was
    made from, newest first."""

    consolidated: bool = False
    backup_directory: str | None = None
    set_timestamp: str | None = None
    chain: list[str] = Field(default_factory=list)
    tables: dict[str, ExportedTable] = Field(default_factory=dict)


class SetDecision(Record):
    """The decision to keep or remove a set, with all reasons. `source_database` is null if the
    manifest cannot be read."""

    timestamp: str
    source_database: str | None = None
    reasons: list[str]


class RemovedSet(SetDecision):
    """Also the files that were removed, or would be, with `bytes` in all. Orphaned files have no
    manifest and no `source_database`."""

    files: list[str]
    bytes: int


# The state of files that belong to no backup set.
FileState = Literal["running", "removed", "adoptable", "orphan"]


class OtherFile(Record):
    """A data file that belongs to no set.

    A live run is writing it (`running`), a prune is removing its set (`removed`), it is one of the
    older system's pair (`adoptable`), or a dead run or an interrupted prune left it (`orphan`).
    """

    file: str
    state: FileState


class PrunedLocation(Record):
    """One location, newest kept set first; `task_id` is None for the root's own. `finished` are
    removals that an earlier prune had begun."""

    task_id: str | None
    backup_path: str
    kept: list[SetDecision]
    removed: list[RemovedSet]
    finished: list[RemovedSet]
    other_files: list[OtherFile]
    bytes_freed: int
    errors: list[str]


class EndedUpload(Record):
    """An upload that a killed run left unfinished; `size` is null if the store does not report
    it."""

    location: str
    started_at: datetime
    size: int | None


class PruneResult(RunResult):
    """After a dry run `removed` still exists. `rules` are the applied ones, in words."""

    pruned: bool = False
    dry_run: bool = False
    rules: str = ""
    locations: list[PrunedLocation] = Field(default_factory=list)
    bytes_freed: int = 0
    abandoned_uploads: list[EndedUpload] = Field(default_factory=list)


def failed_table(error: BackupError, duration: float) -> FailedTable:
    return FailedTable(
        error_type=error.error_type, error=error.message, duration=round(duration, 3)
    )


def truncate_failure(error: BackupError, duration: float, *, is_unknown: bool) -> TruncateFailure:
    return TruncateFailure(
        error_type=error.error_type,
        error=error.message,
        outcome="unknown" if is_unknown else "not_truncated",
        duration=round(duration, 3),
    )


def readable_size(size: int) -> str:
    """`size` bytes in 1024-based units with one decimal: `209.0 B`, `764.0 KB`."""
    number, unit = float(size), _UNITS[0]
    for unit in _UNITS:
        # What would round up to "1024.0" belongs to the next unit.
        if abs(number) < 1023.95 or unit == _UNITS[-1]:
            break
        number /= 1024
    return f"{number:.1f} {unit}"


def error_line(error: BackupError, table: str | None = None) -> str:
    prefix = f"{table}: " if table else ""
    return f"{prefix}{error.error_type}: {error.message}"
