"""What a restore has done so far, and how that is told."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime, timezone, tzinfo
from typing import Literal

from vector_backup_pipeline.engine.errors import BackupError, RunCancelled
from vector_backup_pipeline.engine.restore.source import RestoreSource
from vector_backup_pipeline.engine.restore.target import Target
from vector_backup_pipeline.engine.results import (
    BackupInfo,
    FailedTable,
    Recall,
    RestoredTable,
    RestoreResult,
    TruncatedTable,
    TruncateFailure,
    error_line,
    failed_table,
    readable_size,
)
from vector_backup_pipeline.parameters.restore import RestoreParameters


class RolledBack(BackupError):
    """A table that shares the fate of another."""


@dataclass
class RestoreAccount:
    """Filled in by the run. What goes by tables has an entry for each that came so far: `rows` are
    written, `durations` in seconds, `proved` whether the digest is the manifest's. `error` is the
    first error, `failed_table` the table whose load raised it."""

    request: RestoreParameters
    zone: tzinfo
    source: RestoreSource | None = None
    target: Target | None = None
    rows: dict[str, int] = field(default_factory=dict)
    durations: dict[str, float] = field(default_factory=dict)
    proved: dict[str, bool | None] = field(default_factory=dict)
    failures: dict[str, FailedTable] = field(default_factory=dict)
    error: BackupError | None = None
    failed_table: str | None = None
    is_restored: bool = False
    outcome_is_unknown: bool = False
    recall: list[Recall] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _started: float = field(default_factory=time.monotonic)
    _began_at: datetime = field(default_factory=lambda: datetime.now(timezone.utc))

    @property
    def notices(self) -> list[str]:
        """What a person should know and no error is, so far."""
        return [*self.notes, *(self.target.notices if self.target else [])]

    def rolled_back(self, *, loaded: bool = False) -> RolledBack:
        """What is to be said of a table that failed for no reason of its own."""
        if self.outcome_is_unknown:
            why = "whether it was committed is unknown."
        else:
            failed = self.failed_table or "a step of the restore"
            why = f"everything was rolled back when {failed} failed."
        return RolledBack(f"Loaded, but {why}" if loaded else f"Not restored: {why}")

    def tell(self) -> RestoreResult:
        """The result, as of now."""
        return RestoreResult(
            restore_performed=self.is_restored,
            outcome=self._outcome,
            truncate_performed=self.is_restored and bool(self._truncated()),
            backup_info=self._backup_info(),
            truncate_results={t: self._truncate_result(n) for t, n in self._truncated().items()},
            restore_results=self._restore_results(),
            not_recreated=self.target.not_recreated() if self.target and self.is_restored else {},
            recall_at_10=list(self.recall),
            notices=self.notices,
            errors=[error_line(self.error, self.failed_table)] if self.error else [],
            duration=round(time.monotonic() - self._started, 3),
            timestamp=self._local(self._began_at),
        )

    @property
    def _outcome(self) -> Literal["restored", "not_restored", "unknown"]:
        if self.outcome_is_unknown:
            return "unknown"
        return "restored" if self.is_restored else "not_restored"

    def _backup_info(self) -> BackupInfo | None:
        if self.source is None:
            return None
        return BackupInfo(
            backup_path=self.source.directory.location,
            timestamp=self.source.backup.stamp,
            backup_date=self._local(self.source.backup.created_at),
        )

    def _local(self, moment: datetime) -> datetime:
        return moment.astimezone(self.zone).replace(microsecond=0)

    def _truncated(self) -> dict[str, int]:
        """Rows before, of the tables that this run empties."""
        if self.target is None or not self.request.truncate_before_restore:
            return {}
        return {table: before.rows for table, before in self.target.existing.before.items()}

    def _truncate_result(self, rows: int) -> TruncatedTable | TruncateFailure:
        seconds = self.target.existing.truncate_seconds if self.target else 0.0
        duration = round(seconds, 3)
        if self.is_restored or self.error is None:
            return TruncatedTable(rows_before=rows, rows_after=0, duration=duration)
        outcome: Literal["unknown", "not_truncated"] = (
            "unknown" if self.outcome_is_unknown else "not_truncated"
        )
        return TruncateFailure(
            error_type=self.error.error_type,
            error=self.error.message,
            outcome=outcome,
            duration=duration,
        )

    def _restore_results(self) -> dict[str, RestoredTable | FailedTable]:
        if self.source is None or self.target is None:
            return {}
        return {
            table.table: self._restore_result(self.source, table.table)
            for table in self.source.tables
            if table.table in self.rows or table.table in self.failures
        }

    def _restore_result(self, source: RestoreSource, table: str) -> RestoredTable | FailedTable:
        if table in self.failures:
            return self.failures[table]
        duration = self.durations[table]
        if not self.is_restored:
            reason = self.error or RunCancelled()
            told = failed_table(self.rolled_back(loaded=True), duration)
            return told.model_copy(update={"error_type": reason.error_type})
        stored = source.table(table)
        return RestoredTable(
            source_file=stored.file,
            rows_restored=self.rows[table],
            file_size=readable_size(stored.size),
            duration=round(duration, 3),
            digest_matches=self.proved[table],
        )
