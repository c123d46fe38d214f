"""One backup from beginning to end.

    resolve ─▶ pin ─▶ export (each table) ─▶ truncate ─▶ finish ─▶ close

`close` ends every connection, reports the result if `finish` has not, and removes the run's marker
last.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import psycopg2

from vector_backup_pipeline import __version__
from vector_backup_pipeline.engine.backup.tables import check_binary, read_tables
from vector_backup_pipeline.engine.cancellation import uncancellable
from vector_backup_pipeline.engine.catalog.claims import (
    claim_reading,
    claim_timestamp,
    remove_leftovers,
)
from vector_backup_pipeline.engine.catalog.contents import ManifestSet, read_contents
from vector_backup_pipeline.engine.catalog.sources import SourceDatabase
from vector_backup_pipeline.engine.catalog.stored_sets import stored_set
from vector_backup_pipeline.engine.errors import (
    BackupError,
    IntegrityError,
    InvalidParams,
    ResourceNotFound,
)
from vector_backup_pipeline.engine.file_names import LOG_NAME, manifest_name
from vector_backup_pipeline.engine.incremental.base import Doubt, find_base
from vector_backup_pipeline.engine.incremental.export import TableExporter
from vector_backup_pipeline.engine.manifest import Manifest, TableBackup, TruncateState
from vector_backup_pipeline.engine.postgres.changes import is_durable, wal_position
from vector_backup_pipeline.engine.postgres.commit import CommitUnknown
from vector_backup_pipeline.engine.postgres.connection import ConnectionSettings, database_errors
from vector_backup_pipeline.engine.postgres.ranges import most_ranges
from vector_backup_pipeline.engine.postgres.snapshot import PinnedSnapshot, pin_snapshot
from vector_backup_pipeline.engine.postgres.truncate import check_before_truncate, truncate_tables
from vector_backup_pipeline.engine.progress import ProgressListener
from vector_backup_pipeline.engine.report import (
    error_lines,
    notice_lines,
    table_line,
    truncate_line,
)
from vector_backup_pipeline.engine.results import (
    BackupResult,
    ExportedTable,
    FailedTable,
    IncrementalTable,
    TruncatedTable,
    TruncateFailure,
    error_line,
    failed_table,
    truncate_failure,
)
from vector_backup_pipeline.engine.runs import EngineRun, made
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.engine.stored_files import check_stored_file, check_stored_size
from vector_backup_pipeline.engine.table_definition import Definitions
from vector_backup_pipeline.engine.table_export import table_entry
from vector_backup_pipeline.parameters.backup import BackupRequest

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TableExport:
    """A table that is about to be exported; sizes in bytes, as the server estimates them."""

    table: str
    size: int
    estimated_rows: int | None
    ranges: int


@dataclass(frozen=True)
class _Snapshot:
    """`base` is what the tables build on or why they can't; None if the run's mode is full. `wal`
    is the end of the server's WAL after the snapshot was taken, None on a standby."""

    pinned: PinnedSnapshot
    definitions: Definitions
    base: ManifestSet | Doubt | None
    wal: str | None


class BackupRun(EngineRun[BackupResult]):
    """The state of one run. Its methods are called in order, once each (`export` once per table).

    `stored` are the tables with finished files, by the caller's names.
    """

    def __init__(
        self, request: BackupRequest, root: BackupRoot, *, lock_timeout: float, run_id: str
    ) -> None:
        super().__init__(root, run_id)
        self.request = request
        self._lock_timeout = lock_timeout
        # The results of the steps so far.
        self._directory: BackupDirectory | None = None
        self._stamp: str | None = None
        self._snapshot: _Snapshot | None = None
        self._can_be_base: bool | None = None
        self.stored: dict[str, TableBackup] = {}
        self._results: dict[str, ExportedTable | FailedTable] = {}
        self._errors: dict[str, BackupError] = {}
        self._truncate_state: TruncateState = "none"
        self._truncate_results: dict[str, TruncatedTable | TruncateFailure] = {}
        self._has_manifest: bool | None = None

    @property
    def error(self) -> BackupError | None:
        """The first failed table's error in the order of `tables`, else the run's own."""
        of_tables = (self._errors[table] for table in self.request.tables if table in self._errors)
        return next(of_tables, self._own_error)

    def resolve(self) -> str | None:
        """Find or create the directory, and remove the files of dead runs. Returns the timestamp
        that is reserved for the set, None if there is nothing to do."""
        with self._remembering():
            if self.request.does_nothing:
                self._directory = self._root.find(self.request.task_id)
                return None
            directory = self._directory = self._root.open(self.request.task_id)
            remove_leftovers(directory)
            self._stamp, claim = claim_timestamp(directory, self._run_id)
            self._claims.callback(claim.release)
            return self._stamp

    def pin(self, connection_settings: Callable[[], ConnectionSettings]) -> list[TableExport]:
        """Open the run's transactions and read the tables; the `export` of a table that can't be
        read reports it."""
        request, started = self.request, time.monotonic()
        with self._remembering():
            pinned = pin_snapshot(
                connection_settings(),
                request.tables,
                request.tables_to_truncate,
                workers=request.workers,
                lock_timeout=self._lock_timeout,
            )
            try:
                wal = self._wal_position(pinned)
                definitions, notices = read_tables(pinned)
                base = None if request.mode == "full" else self._find_base(pinned)
                self._snapshot = _Snapshot(pinned, definitions, base, wal)
                self.notices += [*pinned.notices, *map(str, notices)]
            except BaseException:
                pinned.close()
                raise
        seconds = time.monotonic() - started
        _log.info("Snapshot pinned: %d tables, %.1f s", len(pinned.tables), seconds)
        return [_table_export(pinned, table) for table in request.tables]

    def _wal_position(self, pinned: PinnedSnapshot) -> str | None:
        if self.request.mode == "full" or pinned.server.in_recovery:
            return None
        reading = database_errors("read the position of the WAL", pinned.settings.secrets)
        with reading, pinned.coordinator.cursor() as cursor:
            return wal_position(cursor)

    def _find_base(self, pinned: PinnedSnapshot) -> ManifestSet | Doubt:
        directory = made(self._directory)
        try:
            base = find_base(directory, pinned, self.request)
            # No prune removes it, or what it builds on, before there is a manifest.
            reading = claim_reading(directory, base.stamp, self._run_id, self.notices)
            self._claims.enter_context(reading)
        except Doubt as doubt:
            _log.info("Tables are backed up in full: %s", doubt)
            return doubt
        except (ResourceNotFound, IntegrityError) as error:
            return Doubt(error.message)
        except InvalidParams as error:
            if self.request.mode == "incremental":
                raise
            return Doubt(error.message)
        _log.info("The backup builds on the set %s", base.stamp)
        return base

    def export(self, table: str, listener: ProgressListener) -> ExportedTable:
        """Export one table. After an error, the next table can be exported."""
        started = time.monotonic()
        try:
            stored, removed = self._export(table, listener)
        except BaseException as cause:
            self._fail(table, self._kept(cause), time.monotonic() - started)
            raise
        duration = round(time.monotonic() - started, 3)
        file = made(stored.file).model_copy(update={"duration": duration})
        self.stored[table] = stored.model_copy(update={"file": file})
        result = file.exported(stored.rows)
        if self.request.mode != "full":
            result = IncrementalTable(
                **dict(result),
                mode="incremental" if stored.builds_on else "full",
                builds_on=stored.builds_on,
                rows_exported=file.rows,
                rows_removed=removed,
                reason=stored.full_reason,
            )
        self._results[table] = result
        _log.info("Exported %s: %d rows, %s, %.1f s", table, file.rows, result.file_size, duration)
        if stored.full_reason is not None:
            _log.info("The backup of %s is full: %s", table, stored.full_reason)
        return result

    def _export(self, table: str, listener: ProgressListener) -> tuple[TableBackup, int | None]:
        directory, request, snapshot = made(self._directory), self.request, made(self._snapshot)
        pinned, definitions = snapshot.pinned, snapshot.definitions
        if table in pinned.failures:
            raise pinned.failures[table]
        source = pinned.tables[table]
        if request.format == "binary":
            check_binary(source, definitions.tables[source.table.oid])
        exporter = TableExporter(
            pinned, source, definitions, directory, self.stamp, request, listener
        )
        return exporter.run(snapshot.base)

    def _fail(self, table: str, error: BackupError, seconds: float) -> None:
        self._errors[table] = error
        self._results[table] = failed_table(error, seconds)

    @property
    def stamp(self) -> str:
        """The timestamp of the set."""
        return made(self._stamp)

    @property
    def directory(self) -> str:
        """The path or URL of the directory, of the root if there is none."""
        return (self._directory or self._root).location

    def path_of(self, file_name: str) -> str:
        """The path or URL of a file of this run."""
        return f"{self.directory}/{file_name}"

    def earlier_rows(self) -> dict[tuple[str, str], int]:
        """The rows of each table, by schema and name, in the newest earlier good set of the same
        database and directory; without tables that its run truncated."""
        contents = read_contents(made(self._directory))
        source = SourceDatabase.of(made(self._snapshot).pinned.server)
        for stamp in sorted(contents.manifests - {self.stamp}, reverse=True):
            backup = contents.backup_set(stamp)
            if isinstance(backup, ManifestSet) and backup.source == source:
                stored = stored_set(contents, backup)
                if stored.state == "complete":
                    files = [file for file in stored.files if file.table not in stored.truncated]
                    return {file.identity: file.rows or 0 for file in files}
        return {}

    def truncate(self) -> dict[str, TruncatedTable]:
        """Truncate the tables, if requested and if the backup is complete and verified.

        Raises:
            BackupError: nothing was truncated, or (`outcome` unknown) that can't be determined.
        """
        if not self.request.truncate_vector_tables:
            return {}
        started = time.monotonic()
        with self._remembering():
            try:
                self._prepare_truncate()
                with uncancellable(unless_requested=True):
                    rows_after = truncate_tables(
                        made(self._snapshot).pinned, self.request.tables_to_truncate
                    )
                    return self._truncated(rows_after, time.monotonic() - started)
            except BaseException as cause:
                if self._truncate_state != "done":
                    self._truncate_failed(self._kept(cause), time.monotonic() - started)
                raise

    def _prepare_truncate(self) -> None:
        """The last checks: proof of the stored files, and the pending manifest."""
        pinned, directory = made(self._snapshot).pinned, made(self._directory)
        if set(self.stored) != set(self.request.tables):
            raise IntegrityError("Not every table of this run was backed up; nothing is truncated.")
        if pinned.truncate_refusal is not None:
            raise pinned.truncate_refusal
        pinned.end_workers()
        for stored in self.stored.values():
            for file in stored.stored:
                check_stored_file(directory, file)
        self._check_durable()
        check_before_truncate(pinned, self._rows_to_truncate())
        self._truncate_state = "pending"
        self._write_manifest()

    def _truncated(
        self, rows_after: Mapping[str, int], seconds: float
    ) -> dict[str, TruncatedTable]:
        duration = round(seconds, 3)
        truncated = {
            table: TruncatedTable(rows_before=rows, rows_after=rows_after[table], duration=duration)
            for table, rows in self._rows_to_truncate().items()
        }
        _log.info("Truncated: %s", ", ".join(truncated))
        self._truncate_results = dict(truncated)
        self._truncate_state = "done"
        self._write_manifest()
        return truncated

    def _truncate_failed(self, error: BackupError, seconds: float) -> None:
        failure = truncate_failure(error, seconds, is_unknown=isinstance(error, CommitUnknown))
        self._truncate_results = dict.fromkeys(self.request.tables_to_truncate, failure)
        if self._truncate_state == "pending":
            self._truncate_state = failure.outcome

    def _rows_to_truncate(self) -> dict[str, int]:
        return {table: self.stored[table].rows for table in self.request.tables_to_truncate}

    def _left_out(self) -> str | None:
        if self.request.does_nothing:
            return None
        if missing := [table for table in self.request.tables if table not in self._results]:
            return f"{', '.join(missing)} was not backed up"
        if self.request.truncate_vector_tables and self._truncate_state != "done":
            return "Nothing was truncated"
        return None

    def _end(self) -> None:
        """End the snapshot, write manifest and log. Raises the first error of these."""
        if self._snapshot is not None:
            self._check_durable()
            self._snapshot.pinned.close()
        errors: list[Exception] = []
        for step in (self._check_stored, self._write_manifest, self._write_log):
            try:
                with self._remembering():
                    step()
            except Exception as error:  # noqa: BLE001 - raised below
                errors.append(error)
        if errors:
            raise errors[0]

    def _check_durable(self) -> None:
        """Whether later backups may build on this one, whatever happens to the server."""
        snapshot = made(self._snapshot)
        if self._can_be_base is not None or snapshot.wal is None:
            return
        pinned, self._can_be_base = snapshot.pinned, False
        if any(table.keys for table in self.stored.values()):
            with suppress(psycopg2.Error), pinned.coordinator.cursor() as cursor:
                self._can_be_base = is_durable(cursor, snapshot.wal, pinned.settings)

    def _check_stored(self) -> None:
        """Check that each file still exists before a set is made of them: a run that lost its
        store for long counts as dead to others, and its files as leftovers."""
        if self._has_manifest:
            return  # They were proven before the truncate.
        errors: list[BackupError] = []
        for table, stored in list(self.stored.items()):
            try:
                for file in stored.stored:
                    check_stored_size(made(self._directory), file)
            except (IntegrityError, ResourceNotFound) as error:
                del self.stored[table]
                self._fail(table, error, self._results[table].duration)
                errors.append(error)
        if errors:
            raise errors[0]

    def _write_manifest(self) -> None:
        """Write or replace the manifest. Without a stored file there is no set."""
        if self._snapshot is None or not self.stored:
            return
        directory, request, stored = made(self._directory), self.request, self.stored
        pinned, definitions = self._snapshot.pinned, self._snapshot.definitions
        errors = {table: error_line(error) for table, error in self._errors.items()}
        manifest = Manifest(
            tool_version=__version__,
            complete=all(table in stored for table in request.tables),
            timestamp=self.stamp,
            created_at=self._began_at,
            task_id=request.task_id,
            run_id=self._run_id,
            export_method=request.export_method,
            workers=request.workers,
            server=pinned.server,
            snapshot=pinned.snapshot,
            tables=[
                stored.get(table) or table_entry(source, definitions, error=errors.get(table))
                for table, source in pinned.tables.items()
            ],
            dependencies=definitions.dependencies,
            truncate=self._truncate_state,
            truncated_tables=list(request.tables_to_truncate),
            result=self._make_result(with_manifest=True),
            builds_on=next((table.builds_on for table in stored.values() if table.builds_on), None),
            can_be_base=bool(self._can_be_base),
        )
        # The existing one remains if the replacement fails.
        self._has_manifest = bool(self._has_manifest)
        name = manifest_name(self.stamp)
        directory.replace(name, manifest.to_json(directory.manifest_key))
        self._has_manifest = True
        _log.info("Manifest written: %s", self.path_of(name))

    def _write_log(self) -> None:
        if self._stamp is None:
            return
        result, server = self._make_result(), self._snapshot and self._snapshot.pinned.server
        source = f"database {server.database}, PostgreSQL {server.version}" if server else None
        lines = [
            f"Task: {self.request.task_id or '(none)'}   Run: {self._run_id}",
            f"Source: {source or '(not reached)'}",
            f"Duration: {result.duration:.3f} s",
            "Tables:",
            *(table_line(name, entry) for name, entry in result.tables_backed_up.items()),
            *_truncate_lines(self.request, result),
            *notice_lines(result.notices),
            *error_lines(result.errors),
        ]
        section = self._section(f"backup {self._stamp}", lines)
        made(self._directory).append(LOG_NAME, section)

    def _release(self) -> None:
        if self._snapshot is not None:
            self._snapshot.pinned.close()
        super()._release()

    def _make_result(self, *, with_manifest: bool = False) -> BackupResult:
        """The result as of now; without a manifest, nothing counts as backed up."""
        order = self.request.tables
        errors = [error_line(self._errors[t], t) for t in order if t in self._errors]
        if self._own_error is not None and self._own_error not in self._errors.values():
            errors.append(error_line(self._own_error))
        return BackupResult(
            backup_performed=len(self.stored) == len(order)
            and (with_manifest or self._has_manifest is not False),
            truncate_performed=self._truncate_state == "done",
            backup_directory=self._directory and self._directory.location,
            tables_backed_up={t: self._results[t] for t in order if t in self._results},
            truncate_results=dict(self._truncate_results),
            **dict(self._common_fields(errors)),
        )


def _table_export(pinned: PinnedSnapshot, table: str) -> TableExport:
    source = pinned.tables.get(table)
    if source is None:
        return TableExport(table, size=0, estimated_rows=None, ranges=0)
    return TableExport(table, source.size, source.estimated_rows, most_ranges(source))


def _truncate_lines(request: BackupRequest, result: BackupResult) -> list[str]:
    if not request.truncate_vector_tables:
        return ["Truncate: not requested"]
    if not result.truncate_results:
        return ["Truncate: nothing was truncated"]
    lines = (truncate_line(name, entry) for name, entry in result.truncate_results.items())
    return ["Truncate:", *lines]
