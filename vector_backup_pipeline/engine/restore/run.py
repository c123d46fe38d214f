"""One restore from beginning to end: the steps in their order, and what each left behind.

    find ─▶ prepare ─▶ load (each table) ─▶ build_indexes ─▶ prove ─▶ finish ─▶ close

All or nothing: until `prove` has committed, whatever fails leaves the target as it was. A step
that fails raises, lets go of the target at once, and is remembered here, so that `finish` can tell
the whole story. `close` may come at any time and after any failure.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.cancellation import as_run_error, uncancellable
from vector_backup_pipeline.engine.catalog.claims import hold_while_reading
from vector_backup_pipeline.engine.errors import (
    BackupError,
    IntegrityError,
    InvalidParams,
    RunCancelled,
)
from vector_backup_pipeline.engine.file_names import LOG_NAME
from vector_backup_pipeline.engine.postgres.commit import CommitUnknown
from vector_backup_pipeline.engine.postgres.connection import (
    ConnectionSettings,
    close_quietly,
    connect,
)
from vector_backup_pipeline.engine.postgres.probes import measure_recall
from vector_backup_pipeline.engine.postgres.server import identify_server
from vector_backup_pipeline.engine.progress import ProgressListener
from vector_backup_pipeline.engine.restore.account import RestoreAccount
from vector_backup_pipeline.engine.restore.binary_rows import check_binary_rows
from vector_backup_pipeline.engine.restore.choice import (
    asking,
    database_of,
    notice_on_target,
    notices_on_set,
)
from vector_backup_pipeline.engine.restore.collections import chosen_rows
from vector_backup_pipeline.engine.restore.load import load_rows
from vector_backup_pipeline.engine.restore.plan import PlannedTable, check_encoding, plan_tables
from vector_backup_pipeline.engine.restore.proof import Content, prove_equal
from vector_backup_pipeline.engine.restore.report import restore_section
from vector_backup_pipeline.engine.restore.rows import check_rows_of, loading_of
from vector_backup_pipeline.engine.restore.source import (
    check_source,
    find_source,
)
from vector_backup_pipeline.engine.restore.target import IndexListener, Target
from vector_backup_pipeline.engine.results import (
    Recall,
    RestoreResult,
    failed_table,
)
from vector_backup_pipeline.engine.storage.contract import BackupRoot, Claim
from vector_backup_pipeline.engine.timestamps import TimestampFormat
from vector_backup_pipeline.parameters.restore import RestoreParameters
from vector_backup_pipeline.parameters.types import LATEST

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

# Of all probes together: a look, not a benchmark.
_PROBE_SECONDS = 60.0


@dataclass(frozen=True)
class FoundBackup:
    """The set that a restore reads. `size` in bytes, of the tables that are asked for."""

    directory: str
    timestamp: str
    tables: tuple[str, ...]
    size: int


@dataclass(frozen=True)
class TableLoad:
    """A table that is about to be loaded. `rows` is None where the backup does not say."""

    table: str
    target: str
    size: int
    rows: int | None


class RestoreRun:
    """The state of one restore. Its methods are called in order, once each (`load` once a table).

    A drill keeps no log: `writes_log` is False then.
    """

    def __init__(
        self,
        request: RestoreParameters,
        root: BackupRoot,
        timestamps: TimestampFormat,
        *,
        lock_timeout: float,
        run_id: str,
        writes_log: bool = True,
    ) -> None:
        self.request = request
        self._root = root
        self._timestamps = timestamps
        self._lock_timeout = lock_timeout
        self._run_id = run_id
        # Who canceled the restore, as far as known; for the log.
        self.canceled_by: str | None = None
        self._writes_log = writes_log
        self._account = RestoreAccount(request, timestamps.timezone)
        self._reading: Claim | None = None
        self._measured = False
        self._result: RestoreResult | None = None

    @property
    def error(self) -> BackupError | None:
        """What the restore failed of first."""
        return self._account.error

    @property
    def notices(self) -> list[str]:
        """What a person should know and no error is, so far."""
        return self._account.notices

    @property
    def server(self) -> str | None:
        """Which database on which server, without any secret; None before it was reached."""
        return self._account.target.description if self._account.target else None

    def find(
        self, connection_settings: Callable[[], ConnectionSettings] | None = None
    ) -> FoundBackup:
        """Find the set, and prove the stored files of the tables that are asked for.

        If the location holds sets of several databases, the target is asked which one it is.
        """
        ask_target = asking(connection_settings) if connection_settings else None
        with self._remembering():
            source = find_source(self._root, self._timestamps, self.request, ask_target)
            self._account.source = source
            self._reading = hold_while_reading(
                source.directory,
                self._timestamps,
                source.backup.stamp,
                self._run_id,
                self._account.notes,
            )
            for covered in source.covered:
                self._account.notes.append(
                    f"{covered} is a partition; its rows come with the partitioned table."
                )
            if self.request.timestamp == LATEST:
                self._account.notes += notices_on_set(source, self._timestamps.now())
            for table in source.tables:
                check_source(source.directory, table)
        return FoundBackup(
            directory=source.directory.location,
            timestamp=source.backup.stamp,
            tables=tuple(table.table for table in source.tables),
            size=sum(table.size for table in source.tables),
        )

    def prepare(self, connection_settings: Callable[[], ConnectionSettings]) -> list[TableLoad]:
        """Look at the target, then lock, empty and make its tables, as asked."""
        with self._remembering():
            source = _known(self._account.source)
            self._account.target = target = Target(
                connection_settings(), self.request, self._lock_timeout, self._run_id
            )
            target.plan(self._plan)
            if target.server is not None:
                database = database_of(target.server)
                self._account.notes += notice_on_target(source, self.request, database)
            for table in target.planned:
                check_rows_of(source.directory, table)
            target.begin(source.backup.manifest.dependencies)
        _log.info("Target prepared: %d tables", len(target.planned))
        return [
            TableLoad(
                table=table.table,
                target=f"{table.schema}.{table.name}",
                size=table.stored.size,
                rows=table.stored.rows,
            )
            for table in target.planned
        ]

    def _plan(self, cursor: Cursor) -> list[PlannedTable]:
        source = _known(self._account.source)
        manifest = source.backup.manifest
        planned = plan_tables(cursor, source, self.request)
        check_encoding(manifest.server, identify_server(cursor))
        check_binary_rows(
            cursor,
            planned,
            manifest,
            allow_other_versions=self.request.allow_other_versions,
        )
        if self.request.collections is None:
            return planned
        return chosen_rows(source.directory, planned, self.request.collections)

    def load(self, table: str, listener: ProgressListener) -> int:
        """Load one table; the rows that were written. After a failure nothing more is loaded."""
        started = time.monotonic()
        try:
            with self._remembering(table):
                self._refuse_after_failure()
                rows = self._load(self._planned(table), listener)
        except BaseException as cause:
            error = as_run_error(cause)
            self._account.failures[table] = failed_table(error, time.monotonic() - started)
            raise
        self._account.durations[table] = time.monotonic() - started
        self._account.rows[table] = rows
        _log.info("Loaded %s: %d rows, %.1f s", table, rows, self._account.durations[table])
        self._note_skipped(table, rows)
        return rows

    def _note_skipped(self, table: str, rows: int) -> None:
        stored = _known(self._account.source).table(table).rows
        left = stored - rows
        if self.request.on_conflict == "skip" and not self.request.selects_rows and left > 0:
            self._account.notes.append(f"{table}: {left} rows were there already and were left.")

    def _load(self, table: PlannedTable, listener: ProgressListener) -> int:
        target = _known(self._account.target)
        loading = loading_of(
            _known(self._account.source).directory,
            table,
            self.request,
            target.loading_name(table),
            target.settings.secrets,
        )
        with target.loading(table) as streams:
            rows = load_rows(streams[: loading.most_streams], loading, listener)
        target.loaded(table, rows)
        return rows

    def build_indexes(self, listener: IndexListener = lambda _: None) -> None:
        """Build what was left for after the rows: keys and indexes."""
        started = time.monotonic()
        with self._remembering():
            self._refuse_after_failure()
            _known(self._account.target).build(listener)
        _log.info("Indexes built: %.1f s", time.monotonic() - started)

    def prove(self) -> dict[str, bool | None]:
        """Prove every table, then make the restore visible, all at once; by table, whether its
        digest is the manifest's (None where none can be compared).

        Raises:
            IntegrityError: the target does not hold what the backup does; it is as it was.
        """
        with self._remembering():
            self._refuse_after_failure()
            target = _known(self._account.target)
            if untold := [t.table for t in target.planned if t.table not in self._account.rows]:
                raise InvalidParams(
                    f"{', '.join(untold)} was not loaded: a step of the job was left out. Launch "
                    "the whole job."
                )
            for table in target.planned:
                self._account.proved[table.table] = self._prove(target, table)
            _log.info("Proved: %s", ", ".join(self._account.proved))
            target.finish_tables()
            with uncancellable(unless_requested=True):
                self._commit()
        return dict(self._account.proved)

    def _prove(self, target: Target, table: PlannedTable) -> bool | None:
        data = table.stored.data
        if data.digest.value is not None and self.request.loads_every_row_as_it_is:
            before = target.existing.before.get(table.table)
            found = target.content(table)
            added = found - before.kept if before else found
            prove_equal(table.table, added, Content(data.rows, int(data.digest.value, 16)))
            return True
        self._prove_count(target, table)
        return None

    def _prove_count(self, target: Target, table: PlannedTable) -> None:
        loaded = self._account.rows[table.table]
        if self.request.loads_every_row_as_it_is and loaded != table.stored.rows:
            raise IntegrityError(
                f"{loaded} rows were loaded into {table.table}, and {table.stored.file} had "
                f"{table.stored.rows} when it was adopted. Everything was rolled back, and the "
                "target is as it was. Check the disk."
            )
        if table.existing is None:
            rows, kept = target.content(table).rows, 0
        else:
            rows, kept = target.rows(table), target.existing.before[table.table].kept.rows
        if self.request.on_conflict == "replace":
            is_right = kept <= rows <= kept + loaded
        else:
            is_right = rows == kept + loaded
        if not is_right:
            raise IntegrityError(
                f"{loaded} rows went into {table.table}, which had {kept} and now has {rows}. "
                "Everything was rolled back, and the target is as it was. A trigger or a rule may "
                "have interfered."
            )

    def _commit(self) -> None:
        try:
            _known(self._account.target).commit()
        except CommitUnknown:
            self._account.outcome_is_unknown = True
            raise
        self._account.is_restored = True
        _log.info("Committed")

    def measure_recall(self) -> list[Recall]:
        """Ask the restored tables for the neighbours of a few of their own vectors.

        Comes after the commit and never fails the restore: what can't be measured is noted.
        """
        if not self.request.probes or not self._account.is_restored:
            self._measured = True
            return []
        target = _known(self._account.target)
        until = time.monotonic() + _PROBE_SECONDS
        try:
            connection = connect(target.settings)
        except BackupError as error:
            self._account.notes.append(f"Recall was not measured: {error.message}")
            self._measured = True
            return []
        try:
            for table in target.planned:
                self._account.recall += measure_recall(
                    connection,
                    table.schema,
                    table.name,
                    table.table,
                    self.request.probes,
                    max(0.0, until - time.monotonic()),
                )
        finally:
            close_quietly(connection)
        self._measured = True
        return list(self._account.recall)

    def finish(self) -> RestoreResult:
        """Let go of the target, write the log, and tell the result. Once.

        Raises:
            InvalidParams: steps were left out, and so nothing was restored.
        """
        if self._result is not None:
            return self._result
        if self._account.is_restored and not self._measured:
            self._account.notes.append("Recall was not measured: the run was stopped before.")
        left_out: BackupError | None = None
        if self.error is None and not self._account.is_restored:
            left_out = self._account.error = InvalidParams(
                "Nothing was restored: a step of the job was left out. Launch the whole job."
            )
        self._let_go()
        result = self._account.tell()
        try:
            self._append_to_log(result)
        except BackupError as error:
            # A backup may well lie where nobody can write; the restore is no worse for it.
            self._account.notes.append(f"The log was not written: {error.message}")
            result = self._account.tell()
        self._result = result
        if left_out is not None:
            raise left_out
        return result

    def close(self) -> RestoreResult:
        """Leave nothing open and nothing untold, whatever happened before."""
        try:
            if self._result is None and self.error is None and not self._account.is_restored:
                self._account.error = RunCancelled()
            return self.finish()
        finally:
            self._let_go()

    def _let_go(self) -> None:
        try:
            if self._account.target is not None:
                self._account.target.close()
        finally:
            reading, self._reading = self._reading, None
            if reading is not None:
                reading.release()

    def _refuse_after_failure(self) -> None:
        if self._account.error is not None:
            raise self._account.rolled_back()

    def _planned(self, table: str) -> PlannedTable:
        return next(each for each in _known(self._account.target).planned if each.table == table)

    def _append_to_log(self, result: RestoreResult) -> None:
        if self._account.source is None or not self._writes_log:
            return
        section = restore_section(
            self.request,
            result,
            self.error,
            run_id=self._run_id,
            canceled_by=self.canceled_by,
            target=self.server,
        )
        self._account.source.directory.append(LOG_NAME, section)

    @contextlib.contextmanager
    def _remembering(self, table: str | None = None) -> Iterator[None]:
        """Keep the first error, with the `table` that it is about, and release the target: nobody
        waits for a failed restore."""
        try:
            yield
        except BaseException as cause:
            if self._account.error is None:
                self._account.error = as_run_error(cause)
                self._account.failed_table = table
                self._let_go()
            raise


def _known(value: _T | None) -> _T:
    """What an earlier step has set."""
    if value is None:
        raise BackupError("The steps of this restore were not called in their order.")
    return value
