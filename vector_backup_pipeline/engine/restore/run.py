"""One restore from beginning to end.

    find ─▶ prepare ─▶ load (each table) ─▶ build_indexes ─▶ prove ─▶ measure_recall ─▶ finish

All or nothing: until `prove` has committed, any failure leaves the target unchanged. A failed step
ends the connections at once, so that no session waits for the locks of a failed restore.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from vector_backup_pipeline.engine import results
from vector_backup_pipeline.engine.cancellation import uncancellable
from vector_backup_pipeline.engine.catalog.claims import claim_reading
from vector_backup_pipeline.engine.catalog.sources import SourceDatabase
from vector_backup_pipeline.engine.errors import BackupError, InvalidParams, RunCancelled
from vector_backup_pipeline.engine.postgres.commit import CommitUnknown
from vector_backup_pipeline.engine.postgres.connection import (
    ConnectionSettings,
    close_quietly,
    connect,
)
from vector_backup_pipeline.engine.postgres.probes import measure_recall
from vector_backup_pipeline.engine.progress import ProgressListener
from vector_backup_pipeline.engine.report import error_lines
from vector_backup_pipeline.engine.restore.collections import chosen_rows
from vector_backup_pipeline.engine.restore.connections import TargetConnections
from vector_backup_pipeline.engine.restore.load import check_older_file, load_table
from vector_backup_pipeline.engine.restore.plan import PlannedTable, plan_tables
from vector_backup_pipeline.engine.restore.report import restore_lines
from vector_backup_pipeline.engine.restore.source import RestoreSource, find_source
from vector_backup_pipeline.engine.restore.target import IndexListener, Target
from vector_backup_pipeline.engine.runs import EngineRun, append_to_log, made
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.parameters.restore import RestoreParameters

_log = logging.getLogger(__name__)

# For all probes together: a check, not a benchmark.
_PROBE_SECONDS = 60.0


@dataclass(frozen=True)
class FoundBackup:
    """The set that a restore reads. `size` of the requested tables in bytes."""

    directory: str
    timestamp: str
    tables: tuple[str, ...]
    size: int


@dataclass(frozen=True)
class TableLoad:
    table: str
    target: str
    size: int
    rows: int


@dataclass
class _Loaded:
    """`duration` in seconds; `digest_matches` as in `RestoredTable`, after the proof."""

    rows: int
    duration: float
    digest_matches: bool | None = None


class RestoreRun(EngineRun[results.RestoreResult]):
    """The state of one restore. Its methods are called in order, once each (`load` once per table).

    A restore test keeps no log: `writes_log` is False then.
    """

    def __init__(
        self,
        request: RestoreParameters,
        root: BackupRoot,
        *,
        lock_timeout: float,
        run_id: str,
        writes_log: bool = True,
    ) -> None:
        super().__init__(root, run_id)
        self.request = request
        self._lock_timeout = lock_timeout
        self._writes_log = writes_log
        self._connection_settings: Callable[[], ConnectionSettings] | None = None
        # The results of the steps so far.
        self._source: RestoreSource | None = None
        self._connections: TargetConnections | None = None
        self._target: Target | None = None
        self._loaded: dict[str, _Loaded] = {}
        self._failures: dict[str, results.FailedTable] = {}
        self._failed_table: str | None = None
        self._outcome: Literal["restored", "not_restored", "unknown"] = "not_restored"
        self._recall: list[results.Recall] | None = None

    @property
    def server(self) -> str | None:
        """The database and its server's version; None before it was reached."""
        if self._connections is None:
            return None
        server = self._connections.server
        return f"database {server.database}, PostgreSQL {server.version}"

    def find(self, connection_settings: Callable[[], ConnectionSettings]) -> FoundBackup:
        """Find the set, and verify the stored files of the requested tables.

        If the location holds sets of several databases, the target's name and system decide:
        `connection_settings` returns how to connect to it.
        """
        self._connection_settings = connection_settings
        with self._remembering():
            source = find_source(self._root, self.request, self._target_database)
            self._source = source
            stamp = source.backup.stamp
            reading = claim_reading(source.directory, stamp, self._run_id, self.notices)
            self._claims.enter_context(reading)
            self.notices += source.notices(self.request, self._root.timestamps.now())
            self._source = source = source.check_files(self.request)
        return FoundBackup(
            directory=source.directory.location,
            timestamp=stamp,
            tables=tuple(table.table for table in source.tables),
            size=sum(table.size for table in source.tables),
        )

    def prepare(self) -> list[TableLoad]:
        """Check the target, then lock, truncate and create its tables, as requested."""
        with self._remembering():
            source = made(self._source)
            self._connections = connections = self._connect()
            self.notices += source.notices_on_target(self.request, connections.database)
            planned = self._plan(source, connections)
            for table in planned:
                check_older_file(source.directory, table)
            self._target = target = Target(connections, planned, self.request)
            target.begin(source.backup.manifest.dependencies, self._run_id)
        _log.info("Target prepared: %d tables", len(planned))
        return [
            TableLoad(
                table=table.table,
                target=f"{table.schema}.{table.name}",
                size=table.stored.size,
                rows=table.stored.rows,
            )
            for table in planned
        ]

    def _connect(self) -> TargetConnections:
        settings = made(self._connection_settings)()
        return TargetConnections(settings, self.request, self._lock_timeout, self.notices)

    def _target_database(self) -> SourceDatabase:
        connections = self._connect()
        connections.close()
        return connections.database

    def _plan(self, source: RestoreSource, connections: TargetConnections) -> list[PlannedTable]:
        with connections.errors("read the target"), connections.coordinator.cursor() as cursor:
            planned = plan_tables(cursor, source, connections.server, self.request)
            connections.commit_and_begin(connections.coordinator)
        if self.request.collections is None:
            return planned
        return chosen_rows(source.directory, planned, self.request.collections)

    def load(self, table: str, listener: ProgressListener) -> int:
        """Load one table; returns the rows that were written. After a failure nothing is loaded."""
        started = time.monotonic()
        try:
            with self._remembering(table):
                target = made(self._target)
                planned = next(planned for planned in target.planned if planned.table == table)
                with target.loading(planned) as connections:
                    rows = load_table(
                        connections,
                        made(self._source).directory,
                        planned,
                        target.loading_name(planned),
                        self.request,
                        listener,
                    )
        except BaseException as cause:
            error = self._kept(cause)
            self._failures[table] = results.failed_table(error, time.monotonic() - started)
            raise
        self._loaded[table] = loaded = _Loaded(rows, time.monotonic() - started)
        _log.info("Loaded %s: %d rows, %.1f s", table, rows, loaded.duration)
        skipped = made(self._source).table(table).rows - rows
        if self.request.on_conflict == "skip" and self.request.collections is None and skipped > 0:
            self.notices.append(f"{table}: {skipped} rows existed already and were skipped.")
        return rows

    def build_indexes(self, listener: IndexListener = lambda _: None) -> None:
        started = time.monotonic()
        with self._remembering():
            made(self._target).build_indexes(listener)
        _log.info("Indexes built: %.1f s", time.monotonic() - started)

    def prove(self) -> dict[str, bool | None]:
        """Prove every table, then commit. Returns by table whether its digest is the manifest's;
        None if digests cannot be compared. Raises `IntegrityError` if the target does not have the
        backup's rows; it is unchanged."""
        with self._remembering():
            target = made(self._target)
            if missing := [t.table for t in target.planned if t.table not in self._loaded]:
                raise InvalidParams(
                    f"{', '.join(missing)} was not loaded: a step of the job was left out. Launch "
                    "the whole job."
                )
            for table in target.planned:
                loaded = self._loaded[table.table]
                loaded.digest_matches = target.prove(table, loaded.rows)
            _log.info("Proved: %s", ", ".join(self._loaded))
            target.finish()
            with uncancellable(unless_requested=True):
                self._commit(target)
        return {table: loaded.digest_matches for table, loaded in self._loaded.items()}

    def _commit(self, target: Target) -> None:
        try:
            target.connections.commit()
        except CommitUnknown:
            self._outcome = "unknown"
            raise
        self._outcome = "restored"
        _log.info("Committed")

    def measure_recall(self) -> list[results.Recall]:
        """Search the restored tables for the neighbors of a few of their own vectors.

        Call this after the commit. It never fails the restore: an error becomes a notice.
        """
        recall: list[results.Recall] = []
        if self.request.probes and self._outcome == "restored":
            target = made(self._target)
            deadline = time.monotonic() + _PROBE_SECONDS
            try:
                connection = connect(target.connections.settings)
            except BackupError as error:
                self.notices.append(f"Recall was not measured: {error.message}")
            else:
                try:
                    for table in target.planned:
                        seconds = max(0.0, deadline - time.monotonic())
                        recall += measure_recall(
                            connection, table.full_name, table.table, self.request.probes, seconds
                        )
                finally:
                    close_quietly(connection)
        self._recall = recall
        return recall

    def _left_out(self) -> str | None:
        return None if self._outcome == "restored" else "Nothing was restored"

    def _end(self) -> None:
        if self._outcome == "restored" and self._recall is None:
            self.notices.append("Recall was not measured: the run was stopped before.")
        self._release()
        if self._source is None or not self._writes_log:
            return
        result = self._make_result()
        lines = [
            f"Task: {self.request.task_id or '(none)'}   Run: {self._run_id}",
            f"Target: {self.server or '(not reached)'}",
            f"Duration: {result.duration:.3f} s",
            *error_lines(result.errors),
            "Tables:",
            *restore_lines(result),
        ]
        title = f"restore {self._source.backup.stamp}"
        append_to_log(self._source.directory, self._section(title, lines), self.notices)

    def _release(self) -> None:
        try:
            if self._connections is not None:
                self._connections.close()
        finally:
            super()._release()

    @contextlib.contextmanager
    def _remembering(self, table: str | None = None) -> Iterator[None]:
        """Keep the first error, with the `table` that it is about, and release the target. After
        it, further steps are refused."""
        if self._own_error is not None:
            raise BackupError(f"Not restored: {self._why_rolled_back()}")
        try:
            with super()._remembering():
                yield
        except BaseException:
            self._failed_table = table
            self._release()
            raise

    def _why_rolled_back(self) -> str:
        if self._outcome == "unknown":
            return "whether it was committed is unknown."
        cause = self._failed_table or "a step of the restore"
        return f"everything was rolled back when {cause} failed."

    def _make_result(self) -> results.RestoreResult:
        is_restored = self._outcome == "restored"
        truncated = self._truncate_results()
        source, target = self._source, self._target
        info = source and results.BackupInfo(
            backup_path=source.directory.location,
            timestamp=source.backup.stamp,
            backup_date=self._local(source.backup.created_at),
        )
        order = [table.table for table in source.tables] if source else []
        errors = [results.error_line(self.error, self._failed_table)] if self.error else []
        return results.RestoreResult(
            restore_performed=is_restored,
            outcome=self._outcome,
            truncate_performed=is_restored and bool(truncated),
            backup_info=info,
            truncate_results=truncated,
            restore_results={
                table: self._table_result(table)
                for table in order
                if table in self._loaded or table in self._failures
            },
            not_recreated=target.not_recreated() if target and is_restored else {},
            recall_at_10=self._recall or [],
            **dict(self._common_fields(errors)),
        )

    def _table_result(self, table: str) -> results.RestoredTable | results.FailedTable:
        if table in self._failures:
            return self._failures[table]
        loaded, stored = self._loaded[table], made(self._source).table(table)
        if self._outcome != "restored":
            return results.FailedTable(
                error_type=(self.error or RunCancelled()).error_type,
                error=f"Loaded, but {self._why_rolled_back()}",
                duration=round(loaded.duration, 3),
            )
        return results.RestoredTable(
            source_file=stored.file,
            rows_restored=loaded.rows,
            file_size=results.readable_size(stored.size),
            duration=round(loaded.duration, 3),
            digest_matches=loaded.digest_matches,
        )

    def _truncate_results(self) -> dict[str, results.TruncatedTable | results.TruncateFailure]:
        if self._target is None or not self.request.truncate_before_restore:
            return {}
        existing = self._target.existing
        duration = round(existing.truncate_seconds, 3)
        if self.error is None or self._outcome == "restored":
            return {
                table: results.TruncatedTable(
                    rows_before=before.rows, rows_after=0, duration=duration
                )
                for table, before in existing.before.items()
            }
        is_unknown = self._outcome == "unknown"
        failure = results.truncate_failure(self.error, duration, is_unknown=is_unknown)
        return dict.fromkeys(existing.before, failure)
