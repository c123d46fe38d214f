"""The database: can it be reached, and does it do all that a backup asks of it?"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from vector_backup_pipeline.engine.catalog.sources import SourceDatabase
from vector_backup_pipeline.engine.checkup.clock import clock_ahead
from vector_backup_pipeline.engine.checkup.finding import (
    Finding,
    failed,
    failed_with,
    ok,
    skipped,
    told_apart,
    warning,
)
from vector_backup_pipeline.engine.checkup.plan import CheckPlan
from vector_backup_pipeline.engine.checkup.tables import (
    TableAdvice,
    TablesReport,
    check_tables,
    read_advice,
)
from vector_backup_pipeline.engine.errors import BackupError
from vector_backup_pipeline.engine.postgres.connection import (
    Connection,
    ConnectionSettings,
    database_errors,
    end_quietly,
)
from vector_backup_pipeline.engine.postgres.server import ServerIdentity, identify_server
from vector_backup_pipeline.engine.postgres.snapshot import (
    PinnedSnapshot,
    connect_workers,
    pin_snapshot,
)
from vector_backup_pipeline.engine.postgres.sql_ascii import ENCODING
from vector_backup_pipeline.engine.postgres.trial import (
    Destination,
    connect_to_look,
    read_clock,
    read_destination,
)

_T = TypeVar("_T")

# A table that somebody holds for longer is told as such; a check should not take half a minute.
_LONGEST_LOCK_WAIT = 3.0
_RANGES_SINCE = 140000
_SNAPSHOT_TAKEN = "one snapshot over all tables was taken, in a session set up as a backup's"
_NO_CONNECTION = "there is no connection to the database"


@dataclass(frozen=True)
class DatabaseReport:
    """`server_ahead` is how far the server's clock is before this machine's, `expected_size` the
    bytes that the next backup may take as CSV, `source` which database this is; None where that
    could not be found out."""

    findings: list[Finding]
    server_ahead: timedelta | None = None
    expected_size: int | None = None
    source: SourceDatabase | None = None


@dataclass(frozen=True)
class _FirstLook:
    destination: Destination
    server: ServerIdentity
    ahead: timedelta
    advice: TableAdvice


def check_database(plan: CheckPlan) -> DatabaseReport:
    """Connect and try what a backup does; the tables' rows are only read."""
    if plan.connection is None:
        reason = "the settings do not say where the database is"
        return DatabaseReport(_all_skipped("connection", reason))
    try:
        look = _look(plan, plan.connection)
    except BackupError as error:
        told = failed_with("database", "connection", error)
        return DatabaseReport([told, *_all_skipped("snapshot", _NO_CONNECTION)])
    findings = list(_server_findings(look))
    source = SourceDatabase(look.server.system_identifier, look.server.database)
    try:
        with _pinned(plan, plan.connection) as pinned:
            findings.append(ok("database", "snapshot", _SNAPSHOT_TAKEN))
            if not pinned.server.is_same_process_as(look.server):
                findings.append(_balancer_finding())
            tables = _tables_report(plan, pinned, look.advice)
            findings.append(_workers_finding(plan, pinned))
    except BackupError as error:
        findings.append(failed_with("database", "snapshot", error))
        findings.append(skipped("tables", "tables", "no snapshot could be taken"))
        return DatabaseReport(findings, look.ahead, None, source)
    findings += tables.findings
    return DatabaseReport(findings, look.ahead, tables.expected_size, source)


def _tables_report(plan: CheckPlan, pinned: PinnedSnapshot, advice: TableAdvice) -> TablesReport:
    try:
        return check_tables(plan, pinned, advice)
    except BackupError as error:
        return TablesReport([failed_with("tables", "tables", error)], None)


def _all_skipped(name: str, reason: str) -> list[Finding]:
    return [skipped("database", name, reason), skipped("tables", "tables", reason)]


def _look(plan: CheckPlan, settings: ConnectionSettings) -> _FirstLook:
    """All that is asked on the connection's own search path, in a transaction of its own."""
    connection = connect_to_look(settings)
    try:
        with database_errors("look at the server", settings.secrets):
            return _look_on(connection, plan)
    finally:
        end_quietly(connection)


def _look_on(connection: Connection, plan: CheckPlan) -> _FirstLook:
    with connection.cursor() as cursor:
        return _FirstLook(
            destination=read_destination(connection),
            server=identify_server(cursor),
            ahead=clock_ahead(lambda: read_clock(cursor), plan.now),
            advice=read_advice(cursor, plan.tables or (), plan.truncate_tables),
        )


@contextlib.contextmanager
def _pinned(plan: CheckPlan, settings: ConnectionSettings) -> Iterator[PinnedSnapshot]:
    """The tables locked for reading and the snapshot taken, by what a backup does it with."""
    pinned = pin_snapshot(
        settings,
        plan.tables or (),
        (),
        workers=0,
        lock_timeout=min(plan.lock_timeout, _LONGEST_LOCK_WAIT),
    )
    try:
        yield pinned
    finally:
        pinned.close()


def _server_findings(look: _FirstLook) -> Iterator[Finding]:
    to, server = look.destination, look.server
    encrypted = f"encrypted ({to.encryption})" if to.encryption else "not encrypted"
    yield ok(
        "database",
        "connection",
        f"connected to {to.database} on {to.host or 'this machine'}, port {to.port}, as {to.user}, "
        f"{encrypted}",
    )
    yield _version_finding(server)
    if server.encoding == ENCODING:
        yield warning(
            "database",
            "encoding",
            "the database's encoding is SQL_ASCII: it may hold bytes that are not UTF-8",
            "They are backed up as they are. A restore needs a SQL_ASCII database too: "
            "CREATE DATABASE ... TEMPLATE template0 ENCODING 'SQL_ASCII'.",
        )
    if server.in_recovery:
        yield warning(
            "database",
            "standby",
            "this server is a standby: it can be backed up, but nothing can be truncated on it, "
            "and it may cancel a long export",
            "Connect to the primary to truncate; else set max_standby_streaming_delay to -1 or "
            "hot_standby_feedback to on.",
        )
    if server.pgvector_version is None:
        yield warning(
            "database",
            "pgvector",
            f"the extension vector is not installed in {server.database}",
            "If there should be vectors, this is the wrong database: check VECTOR_BACKUP_DB_URL.",
        )


def _version_finding(server: ServerIdentity) -> Finding:
    vector = f", pgvector {server.pgvector_version}" if server.pgvector_version else ""
    told = f"PostgreSQL {server.version}, encoding {server.encoding}{vector}"
    if server.version_num < _RANGES_SINCE:
        return warning(
            "database",
            "server",
            f"{told}: each table is read in one stream",
            "From PostgreSQL 14 on, large tables are read by several connections at once.",
        )
    return ok("database", "server", told)


def _balancer_finding() -> Finding:
    return failed(
        "database",
        "balancer",
        "two connections reached two servers, which share no snapshot",
        "Connect to one server directly, not to a balancer or pooler that spreads connections, or "
        "run backups with workers 1.",
    )


def _workers_finding(plan: CheckPlan, pinned: PinnedSnapshot) -> Finding:
    name, wanted = "workers", plan.workers
    try:
        with database_errors("share the snapshot", pinned.settings.secrets):
            refusal = connect_workers(pinned, wanted, min(plan.lock_timeout, _LONGEST_LOCK_WAIT))
    except BackupError as error:
        return failed_with("database", name, error)
    joined = len(pinned.workers)
    pinned.end_workers()
    if joined == wanted:
        return ok("database", name, f"{wanted} more connections share the snapshot")
    why = (
        f": {told_apart(refusal)[0]}" if refusal else ", since somebody waits for a lock on a table"
    )
    return warning(
        "database",
        name,
        f"{joined} of {wanted} more connections could share the snapshot{why}",
        "A backup does with those it gets, more slowly. Raise the server's max_connections or the "
        f"role's CONNECTION LIMIT, or ask for fewer: --workers {max(1, joined)}",
    )
