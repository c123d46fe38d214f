"""One backup from beginning to end: the steps in their order, and what each left behind.

    resolve ─▶ pin ─▶ export (each table) ─▶ truncate ─▶ finish ─▶ close

A step that fails raises, and is remembered here, so that `finish` can tell the whole story. `close`
may come at any time and after any failure: it ends every connection, tells the story if nobody has,
and removes the run's marker last.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Literal, TypeVar

from vector_backup_pipeline.engine.backup.export import StoredTable, export_table
from vector_backup_pipeline.engine.backup.file_form import FileForm
from vector_backup_pipeline.engine.backup.manifest import (
    SnapshotRecord,
    build_manifest,
    read_record,
)
from vector_backup_pipeline.engine.backup.report import log_section
from vector_backup_pipeline.engine.backup.run_marker import claim_timestamp, remove_leftovers
from vector_backup_pipeline.engine.cancellation import as_run_error, uncancellable
from vector_backup_pipeline.engine.errors import (
    BackupError,
    IntegrityError,
    InvalidParams,
    ResourceNotFound,
    RunCancelled,
    StorageError,
)
from vector_backup_pipeline.engine.file_names import LOG_NAME, data_file_name, manifest_name
from vector_backup_pipeline.engine.manifest import TruncateState
from vector_backup_pipeline.engine.postgres.commit import CommitUnknown
from vector_backup_pipeline.engine.postgres.connection import ConnectionSettings
from vector_backup_pipeline.engine.postgres.ranges import most_ranges
from vector_backup_pipeline.engine.postgres.snapshot import PinnedSnapshot, pin_snapshot
from vector_backup_pipeline.engine.postgres.truncate import check_before_truncate, truncate_tables
from vector_backup_pipeline.engine.progress import ProgressListener
from vector_backup_pipeline.engine.range_readers import FetchOptions
from vector_backup_pipeline.engine.results import (
    BackupResult,
    ExportedTable,
    FailedTable,
    TruncatedTable,
    TruncateFailure,
    error_line,
    failed_table,
    readable_size,
)
from vector_backup_pipeline.engine.storage.contract import BackupDirectory, BackupRoot, Claim
from vector_backup_pipeline.engine.stored_files import check_stored_file, check_stored_size
from vector_backup_pipeline.engine.timestamps import TimestampFormat
from vector_backup_pipeline.parameters.backup import BackupRequest

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BackupTarget:
    """Where a run's files go. `timestamp` is None when there is nothing to do."""

    directory: str
    timestamp: str | None
    task_id: str | None


@dataclass(frozen=True)
class TableExport:
    """A table that is about to be exported; sizes in bytes, as the server estimates them."""

    table: str
    size: int
    estimated_rows: int | None
    ranges: int


class BackupRun:
    """The state of one run. Its methods are called in order, once each (`export` once a table)."""

    def __init__(
        self,
        request: BackupRequest,
        root: BackupRoot,
        timestamps: TimestampFormat,
        *,
        lock_timeout: float,
        run_id: str,
    ) -> None:
        self.request = request
        self._root = root
        self._timestamps = timestamps
        self._lock_timeout = lock_timeout
        self._run_id = run_id
        # Who canceled the run, as far as known; for the log.
        self.canceled_by: str | None = None
        self._started = time.monotonic()
        self._created_at = datetime.now(timezone.utc)
        self._directory: BackupDirectory | None = None
        self._stamp: str | None = None
        self._claim: Claim | None = None
        self._pinned: PinnedSnapshot | None = None
        self._record: SnapshotRecord | None = None
        self._stored: dict[str, StoredTable] = {}
        self._failures: dict[str, FailedTable] = {}
        self._errors: dict[str, BackupError] = {}
        self._run_error: BackupError | None = None
        self._notices: list[str] = []
        self._truncate_state: TruncateState = "none"
        self._truncate_results: dict[str, TruncatedTable | TruncateFailure] = {}
        self._result: BackupResult | None = None
        self._has_manifest: bool | None = None

    @property
    def error(self) -> BackupError | None:
        """What the run failed of: the first failed table's error, else the run's own."""
        for table in self.request.tables:
            if table in self._errors:
                return self._errors[table]
        return self._run_error

    def resolve(self) -> BackupTarget:
        """Find or make the directory, take a timestamp in it, and clear what dead runs left."""
        task_id = self.request.task_id
        with self._remembering():
            if self.request.does_nothing:
                self._directory = self._root.find(task_id)
                location = self._directory.location if self._directory else self._root.location
                return BackupTarget(location, None, task_id)
            self._directory = self._root.open(task_id)
            remove_leftovers(self._directory, self._timestamps)
            self._stamp, self._claim = claim_timestamp(
                self._directory, self._timestamps, self._run_id
            )
            return BackupTarget(self._directory.location, self._stamp, task_id)

    def pin(self, connection_settings: Callable[[], ConnectionSettings]) -> list[TableExport]:
        """Open the run's transactions and read the tables; a table that can't be read is left to
        its own `export` to report."""
        request, started = self.request, time.monotonic()
        with self._remembering():
            self._pinned = pinned = pin_snapshot(
                connection_settings(),
                request.tables,
                request.tables_to_truncate,
                workers=request.workers,
                lock_timeout=self._lock_timeout,
            )
            self._notices += pinned.notices
            self._record, notices = read_record(pinned)
            self._notices += map(str, notices)
        seconds = time.monotonic() - started
        _log.info("Snapshot pinned: %d tables, %.1f s", len(pinned.tables), seconds)
        return [self._table_export(pinned, table) for table in request.tables]

    def export(self, table: str, listener: ProgressListener) -> ExportedTable:
        """Export one table. Raises its error, after which the next table can have its turn."""
        started = time.monotonic()
        try:
            stored = self._export(table, listener)
        except BaseException as cause:
            error = as_run_error(cause)
            self._errors[table] = error
            self._failures[table] = failed_table(error, time.monotonic() - started)
            raise
        self._stored[table] = stored
        told = _exported(stored)
        size, seconds = told.file_size, stored.duration
        _log.info("Exported %s: %d rows, %s, %.1f s", table, stored.rows, size, seconds)
        return told

    @property
    def stored(self) -> Mapping[str, StoredTable]:
        """The finished files, by the caller's names of their tables."""
        return self._stored

    def path_of(self, file_name: str) -> str:
        """Where a file of this run lies, as a path or URL."""
        return f"{_known(self._directory).location}/{file_name}"

    def truncate(self) -> dict[str, TruncatedTable]:
        """Empty the truncate tables, if that was asked for and everything about the backup holds.

        Raises:
            BackupError: nothing was truncated, or (`outcome` unknown) nobody can tell.
        """
        if not self.request.truncate_vector_tables:
            return {}
        started = time.monotonic()
        try:
            with self._remembering():
                self._prepare_truncate()
        except BaseException as cause:
            self._remember_truncate_failure(cause, started)
            raise
        with self._remembering():
            try:
                with uncancellable(unless_requested=True):
                    return self._truncate(started)
            except RunCancelled as error:
                self._remember_truncate_failure(error, started)
                raise

    def finish(self) -> BackupResult:
        """End the snapshot, write manifest and log, and tell the result. Once."""
        if self._result is not None:
            return self._result
        first: Exception | None = None
        if self.error is None and (untold := self._untold_tables()):
            first = self._run_error = InvalidParams(
                f"Nothing was done about {', '.join(untold)}: a step of the job was left out. "
                "Launch the whole job."
            )
        if self._pinned is not None:
            self._pinned.close()
        first = first or self._check_stored()
        for step in (self._write_manifest, self._append_to_log):
            try:
                with self._remembering():
                    step()
            except Exception as error:  # noqa: BLE001 - the log is told of it; then it is raised
                first = first or error
        self._result = self._tell_result()
        if first is not None:
            raise first
        return self._result

    def close(self) -> BackupResult:
        """Leave nothing open and nothing untold, whatever happened before."""
        try:
            if self._result is None:
                if self.error is None and not self._is_done():
                    self._run_error = RunCancelled()
                with contextlib.suppress(BackupError):  # Remembered; the result tells it.
                    self.finish()
        finally:
            if self._pinned is not None:
                self._pinned.close()
            if self._claim is not None:
                self._claim.release()
        return self._result or self._tell_result()

    def _check_stored(self) -> BackupError | None:
        """Before a set is made of the files: that each is still there. A run that lost its store
        for long counts as dead to others, and its files as left over."""
        if self._has_manifest:
            return None  # They were proven before the truncate.
        first: BackupError | None = None
        for table, stored in list(self._stored.items()):
            try:
                check_stored_size(_known(self._directory), stored.name, stored.size)
            except (IntegrityError, ResourceNotFound) as error:
                del self._stored[table]
                self._errors[table] = error
                self._failures[table] = failed_table(error, stored.duration)
                first = first or error
            except StorageError as error:
                self._run_error = self._run_error or error
                return first or error  # Out of reach; the others would only wait for it too.
        return first

    def _untold_tables(self) -> list[str]:
        """Tables that should have been backed up and of which nothing is known."""
        if self.request.does_nothing:
            return []
        known = self._stored.keys() | self._failures.keys()
        return [table for table in self.request.tables if table not in known]

    def _is_done(self) -> bool:
        truncated = self._truncate_state == "done" or not self.request.truncate_vector_tables
        return not self._untold_tables() and truncated

    def _table_export(self, pinned: PinnedSnapshot, table: str) -> TableExport:
        source = pinned.tables.get(table)
        if source is None:
            return TableExport(table, size=0, estimated_rows=None, ranges=0)
        return TableExport(table, source.size, source.estimated_rows, most_ranges(source))

    def _export(self, table: str, listener: ProgressListener) -> StoredTable:
        pinned, stamp = _known(self._pinned), _known(self._stamp)
        if table in pinned.failures:
            raise pinned.failures[table]
        source, request = pinned.tables[table], self.request
        form = FileForm(request.format, request.compression, request.compression_level)
        form.check(source, _known(self._record).definitions.tables[source.table.oid])
        name = data_file_name(source.table.schema, source.table.name, stamp, form.extension)
        options = FetchOptions(request.export_method, request.batch_size)
        return export_table(pinned, source, _known(self._directory), name, form, options, listener)

    def _prepare_truncate(self) -> None:
        """All that can still be given up: proof of the stored files, and the pending manifest."""
        pinned, directory = _known(self._pinned), _known(self._directory)
        if set(self._stored) != set(self.request.tables):
            raise IntegrityError("Not every table of this run was backed up; nothing is truncated.")
        if pinned.truncate_refusal is not None:
            raise pinned.truncate_refusal
        pinned.end_workers()
        for stored in self._stored.values():
            check_stored_file(directory, stored.name, stored.size, stored.sha256)
        check_before_truncate(pinned, self._rows_to_truncate())
        self._truncate_state = "pending"
        self._write_manifest()

    def _truncate(self, started: float) -> dict[str, TruncatedTable]:
        try:
            rows_after = truncate_tables(_known(self._pinned), self.request.tables_to_truncate)
        except BaseException as cause:
            self._remember_truncate_failure(cause, started)
            raise
        duration = round(time.monotonic() - started, 3)
        truncated = {
            table: TruncatedTable(rows_before=rows, rows_after=rows_after[table], duration=duration)
            for table, rows in self._rows_to_truncate().items()
        }
        _log.info("Truncated: %s", ", ".join(truncated))
        self._truncate_results = dict(truncated)
        self._truncate_state = "done"
        self._write_manifest()
        return truncated

    def _rows_to_truncate(self) -> dict[str, int]:
        return {table: self._stored[table].rows for table in self.request.tables_to_truncate}

    def _remember_truncate_failure(self, cause: BaseException, started: float) -> None:
        error = as_run_error(cause)
        outcome: Literal["not_truncated", "unknown"] = "not_truncated"
        if isinstance(error, CommitUnknown):
            outcome = "unknown"
        for table in self.request.tables_to_truncate:
            self._truncate_results[table] = TruncateFailure(
                error_type=error.error_type,
                error=error.message,
                outcome=outcome,
                duration=round(time.monotonic() - started, 3),
            )
        if self._truncate_state == "pending":
            self._truncate_state = outcome

    def _write_manifest(self) -> None:
        """Write or replace the manifest. Without a stored file there is no set."""
        if self._record is None or not self._stored:
            return
        directory, stamp = _known(self._directory), _known(self._stamp)
        manifest = build_manifest(
            self.request,
            self._record,
            self._stored,
            self._errors,
            self._tell_result(with_manifest=True),
            stamp=stamp,
            run_id=self._run_id,
            created_at=self._created_at,
            truncate=self._truncate_state,
        )
        # One that is there stays there, whatever becomes of its replacement.
        self._has_manifest = bool(self._has_manifest)
        directory.replace(manifest_name(stamp), manifest.to_json(directory.manifest_key))
        self._has_manifest = True
        _log.info("Manifest written: %s", self.path_of(manifest_name(stamp)))

    def _append_to_log(self) -> None:
        if self._directory is None or self._stamp is None:
            return
        section = log_section(
            self.request,
            self._tell_result(),
            self.error,
            run_id=self._run_id,
            canceled_by=self.canceled_by,
            stamp=self._stamp,
            source=self._source(),
        )
        self._directory.append(LOG_NAME, section)

    def _source(self) -> str | None:
        if self._record is None:
            return None
        server = self._record.server
        return f"database {server.database}, PostgreSQL {server.version}"

    def _tell_result(self, *, with_manifest: bool = False) -> BackupResult:
        """What is known now; without a manifest, nothing counts as backed up."""
        stored = {table: _exported(entry) for table, entry in self._stored.items()}
        entries: dict[str, ExportedTable | FailedTable] = {**self._failures, **stored}
        tables = {table: entries[table] for table in self.request.tables if table in entries}
        errors = [error_line(e, t) for t in self.request.tables if (e := self._errors.get(t))]
        if self._run_error is not None:
            errors.append(error_line(self._run_error))
        return BackupResult(
            backup_performed=len(self._stored) == len(self.request.tables)
            and (with_manifest or self._has_manifest is not False),
            truncate_performed=self._truncate_state == "done",
            backup_directory=self._directory.location if self._directory else None,
            tables_backed_up=tables,
            truncate_results=dict(self._truncate_results),
            notices=list(self._notices),
            errors=errors,
            duration=round(time.monotonic() - self._started, 3),
            timestamp=self._created_at.astimezone(self._timestamps.timezone).replace(microsecond=0),
        )

    @contextlib.contextmanager
    def _remembering(self) -> Iterator[None]:
        """Keep the first error of the run itself, for the result."""
        try:
            yield
        except BaseException as cause:
            if self._run_error is None:
                self._run_error = as_run_error(cause)
            raise


def _known(value: _T | None) -> _T:
    """What an earlier step has set."""
    if value is None:
        raise BackupError("The steps of this run were not called in their order.")
    return value


def _exported(stored: StoredTable) -> ExportedTable:
    return ExportedTable(
        row_count=stored.rows,
        file_size=readable_size(stored.size),
        backup_file=stored.name,
        duration=round(stored.duration, 3),
    )
