"""The database side of the dry run: connections, locks, snapshot, definitions, first rows."""

import contextlib
from collections.abc import Generator, Iterator
from datetime import datetime, timedelta, timezone

from vector_backup_pipeline.engine.backup.tables import read_tables
from vector_backup_pipeline.engine.checkup.finding import Finding, from_error, ok, skipped, warning
from vector_backup_pipeline.engine.errors import BackupError
from vector_backup_pipeline.engine.formats.row_formats import row_format
from vector_backup_pipeline.engine.postgres.connection import ConnectionSettings, database_errors
from vector_backup_pipeline.engine.postgres.ranges import BlockRange
from vector_backup_pipeline.engine.postgres.server import read_clock
from vector_backup_pipeline.engine.postgres.snapshot import (
    PinnedSnapshot,
    connect_workers,
    pin_snapshot,
)
from vector_backup_pipeline.engine.postgres.tables import TableSource
from vector_backup_pipeline.engine.range_readers import ReadJob, read_ranges
from vector_backup_pipeline.engine.results import readable_size
from vector_backup_pipeline.engine.table_export import expected_size
from vector_backup_pipeline.parameters.backup import BackupRequest

# Seconds. A table that is locked for longer is a warning: a check should not take half a minute.
_LOCK_TIMEOUT = 3.0


def check_database(
    request: BackupRequest, connection: ConnectionSettings, lock_timeout: float
) -> Generator[Finding, None, tuple[timedelta | None, int | None]]:
    """Take the snapshot of a backup and read the first row of each table. Returns how far the
    server's clock is ahead of this machine's, and the estimated size of the next backup in bytes;
    None if unknown."""
    lock_timeout = min(lock_timeout, _LOCK_TIMEOUT)
    clock_offset, sizes = None, list[int]()
    try:
        # Without truncate tables, since their lock would block writers.
        snapshot = pin_snapshot(
            connection, request.tables, (), workers=0, lock_timeout=lock_timeout
        )
        with contextlib.closing(snapshot) as pinned:
            yield from _server_findings(pinned)
            with (
                database_errors("read the clock", connection.secrets),
                pinned.coordinator.cursor() as cursor,
            ):
                clock_offset = read_clock(cursor) - datetime.now(timezone.utc)
            yield _workers_finding(pinned, request.workers, lock_timeout)
            yield from _table_findings(pinned, request)
            yield from _truncate_findings(pinned, request)
            sizes += (expected_size(source, request) for source in pinned.tables.values())
    except BackupError as error:
        yield from_error("database", "connection", error)
        yield skipped("tables", "tables", "there is no connection to the database")
    return clock_offset, sum(sizes) if sizes else None


def _server_findings(pinned: PinnedSnapshot) -> Iterator[Finding]:
    info, server = pinned.coordinator.info, pinned.server
    encryption = info.ssl_attribute("protocol") if info.ssl_in_use else "not encrypted"
    yield ok(
        "database",
        "connection",
        f"connected to {info.dbname} on {info.host or 'this machine'}, port {info.port}, as "
        f"{info.user} ({encryption})",
    )
    vector = f"pgvector {server.pgvector_version}" if server.pgvector_version else "no pgvector"
    message = f"PostgreSQL {server.version}, encoding {server.encoding}, {vector}"
    if server.pgvector_version is None:
        advice = "If the tables contain vectors, this is the wrong database."
        yield warning("database", "server", message, advice)
    elif server.in_recovery:
        advice = "Connect to the primary to truncate. A standby may cancel a long export."
        yield warning("database", "server", f"{message}, a standby", advice)
    else:
        yield ok("database", "server", message)


def _workers_finding(pinned: PinnedSnapshot, workers: int, lock_timeout: float) -> Finding:
    name = "workers"
    if workers < 2:
        return ok("database", name, "the tables are read over one connection")
    try:
        with database_errors("share the snapshot", pinned.settings.secrets):
            refusal = connect_workers(pinned, workers, lock_timeout)
    except BackupError as error:
        return from_error("database", name, error)
    joined = len(pinned.workers)
    if joined == workers:
        return ok("database", name, f"{workers} connections share one snapshot")
    reason = refusal.summary if refusal else "Another session waits for a lock on a table."
    return warning(
        "database",
        name,
        f"only {joined} of {workers} connections can share the snapshot: {reason}",
        "A backup uses the available ones. Raise the limit (max_connections, the role's CONNECTION "
        f"LIMIT, the pool size), or use fewer workers: --workers {max(1, joined)}",
    )


def _table_findings(pinned: PinnedSnapshot, request: BackupRequest) -> Iterator[Finding]:
    try:
        _, notices = read_tables(pinned)
    except BackupError as error:
        yield from_error("tables", "definitions", error)
        return
    batch_size = request.batch_size if request.export_method == "cursor" else None
    for table in request.tables:
        if table in pinned.failures:
            yield from_error("tables", table, pinned.failures[table])
        else:
            yield _read_first_row(pinned, pinned.tables[table], batch_size)
    for notice in notices:
        yield warning("tables", notice.subject, notice.message, notice.advice)


def _read_first_row(pinned: PinnedSnapshot, source: TableSource, batch_size: int | None) -> Finding:
    table = source.table.requested
    ranges = [BlockRange(relation, 0, None, limit=1) for relation in source.relations]
    job = ReadJob(
        table, source.columns, ranges, row_format("csv"), pinned.settings.secrets, batch_size
    )
    try:
        with read_ranges(pinned.streams(), job) as readers:
            for _ in readers:
                pass
    except BackupError as error:
        return from_error("tables", table, error)
    rows = "" if source.estimated_rows is None else f"about {source.estimated_rows} rows, "
    return ok("tables", table, f"can be read: {rows}{readable_size(source.size)}")


def _truncate_findings(pinned: PinnedSnapshot, request: BackupRequest) -> Iterator[Finding]:
    """The findings of a backup that truncates, even if this one does not."""
    truncating = request.model_copy(update={"truncate_vector_tables": True})
    for table in truncating.tables_to_truncate:
        source = pinned.tables.get(table)
        if source is None:
            yield skipped("tables", f"truncate {table}", "the table cannot be backed up")
        elif source.table.truncate_refusal is not None:
            refusal = source.table.truncate_refusal
            yield from_error("tables", f"truncate {table}", refusal, "warning")
        else:
            yield ok("tables", f"truncate {table}", "can be truncated")
