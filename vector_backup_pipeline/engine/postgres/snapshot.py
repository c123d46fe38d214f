"""One snapshot for all tables of a run, held by a coordinating transaction.

The order is what keeps rows safe. Names and privileges are read in a transaction of their own. The
coordinating transaction then sends only SET LOCAL, SAVEPOINT and LOCK, none of which fixes its
snapshot; so every writer that finished before a lock was granted is inside the snapshot, and while
the writers' lock is held none can follow. Only then is the snapshot exported to the workers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import psycopg2
from psycopg2.extensions import ISOLATION_LEVEL_REPEATABLE_READ
from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Composable

from vector_backup_pipeline.engine import errors
from vector_backup_pipeline.engine.postgres.connection import (
    WORKER_PATIENCE_SECONDS,
    Connection,
    ConnectionSettings,
    close_quietly,
    connect,
    database_errors,
    end_quietly,
    translated,
)
from vector_backup_pipeline.engine.postgres.ranges import most_ranges
from vector_backup_pipeline.engine.postgres.server import ServerIdentity, identify_server
from vector_backup_pipeline.engine.postgres.session import (
    allow_writes,
    apply_session_settings,
    fetch_value,
    savepoint,
)
from vector_backup_pipeline.engine.postgres.tables import (
    ResolvedTable,
    TableSource,
    read_sources,
    read_states,
    relation_locks,
    resolve_table,
)

_READERS_LOCK = SQL("ACCESS SHARE")
# Blocks writers and other truncating runs, not readers (PostgreSQL, "Table-Level Locks").
_WRITERS_LOCK = SQL("SHARE ROW EXCLUSIVE")
WRITERS_LOCK_MODE = "ShareRowExclusiveLock"

_LOCK = SQL("LOCK TABLE {} IN {} MODE")


@dataclass
class PinnedSnapshot:
    """The open transactions of a run. `close` ends them all.

    `tables` and `failures` are by the caller's names; together they hold every requested table.
    `truncate_refusal` says why nothing may be truncated in this run, None if it may. `notices` are
    for the run's result.
    """

    settings: ConnectionSettings
    server: ServerIdentity
    coordinator: Connection
    snapshot: str
    tables: dict[str, TableSource]
    failures: dict[str, errors.BackupError]
    truncate_refusal: errors.BackupError | None
    workers: list[Connection] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def streams(self) -> list[Connection]:
        """The connections an export may use: the workers, or with none left the coordinator."""
        return [worker for worker in self.workers if not worker.closed] or [self.coordinator]

    def end_workers(self) -> None:
        """End the workers' transactions, whose locks would block a truncate."""
        for worker in self.workers:
            end_quietly(worker)
        self.workers = []

    def close(self) -> None:
        self.end_workers()
        end_quietly(self.coordinator)


def pin_snapshot(
    settings: ConnectionSettings,
    tables: Sequence[str],
    truncate_tables: Sequence[str],
    *,
    workers: int,
    lock_timeout: float,
) -> PinnedSnapshot:
    """Lock `tables`, fix one snapshot over them and share it with up to `workers` connections.

    A table that is missing, unreadable or can't be locked becomes a failure of its own. If the
    writers' lock on `truncate_tables` is refused, the snapshot is taken without it. Raises
    `ServiceUnavailable` or `DatabaseError` if nothing can be read at all.
    """
    coordinator = connect(settings)
    try:
        with database_errors("pin the snapshot", settings.secrets):
            coordinator.set_session(isolation_level=ISOLATION_LEVEL_REPEATABLE_READ)
            with coordinator.cursor() as cursor:
                resolved, failures = _resolve_tables(cursor, tables)
                server = identify_server(cursor)
                coordinator.commit()
                apply_session_settings(cursor, lock_timeout)
                if truncate_tables and not server.in_recovery:
                    allow_writes(cursor)
                secrets = settings.secrets
                refusal = _lock_tables(cursor, resolved, failures, truncate_tables, secrets)
                snapshot = _current_snapshot(cursor)
                locked = [table for name, table in resolved.items() if name not in failures]
                sources = _checked_sources(cursor, locked, failures)
            pinned = PinnedSnapshot(
                settings=settings,
                server=server,
                coordinator=coordinator,
                snapshot=snapshot,
                tables={name: sources[name] for name in tables if name in sources},
                failures=failures,
                truncate_refusal=refusal,
            )
            _add_workers(pinned, workers, lock_timeout)
        return pinned
    except BaseException:
        close_quietly(coordinator)
        raise


def _current_snapshot(cursor: Cursor) -> str:
    return str(fetch_value(cursor, "SELECT pg_current_snapshot()::text"))


def _resolve_tables(
    cursor: Cursor, tables: Sequence[str]
) -> tuple[dict[str, ResolvedTable], dict[str, errors.BackupError]]:
    """The tables by the caller's names, in OID order, and the errors of the others."""
    by_oid: dict[int, ResolvedTable] = {}
    failures: dict[str, errors.BackupError] = {}
    for name in tables:
        try:
            table = resolve_table(cursor, name)
        except errors.BackupError as error:
            failures[name] = error
            continue
        other = by_oid.setdefault(table.oid, table)
        if other is not table:
            failures[name] = errors.InvalidParams(
                f"{name} and {other.requested} are the same table. Name it once."
            )
    return {by_oid[oid].requested: by_oid[oid] for oid in sorted(by_oid)}, failures


def _lock_tables(
    cursor: Cursor,
    resolved: Mapping[str, ResolvedTable],
    failures: dict[str, errors.BackupError],
    truncate_tables: Sequence[str],
    secrets: tuple[str, ...],
) -> errors.BackupError | None:
    """Lock every table, adding to `failures` those that can't be; returns why not to truncate.

    First with the writers' lock on `truncate_tables`; if that is refused for any of them, all over
    again without it, so that no writer waits for a truncate that will not come.
    """
    refusal: errors.BackupError | None = None
    for name in truncate_tables:
        refusal = refusal or failures.get(name) or resolved[name].truncate_refusal
    if truncate_tables and refusal is None:
        try:
            with savepoint(cursor):
                _lock_each(cursor, resolved, failures, truncate_tables, secrets)
            return None
        except errors.BackupError as error:
            refusal = error
    _lock_each(cursor, resolved, failures, (), secrets)
    return refusal


def _lock_each(
    cursor: Cursor,
    resolved: Mapping[str, ResolvedTable],
    failures: dict[str, errors.BackupError],
    truncate_tables: Sequence[str],
    secrets: tuple[str, ...],
) -> None:
    """Raise the error of a refused lock against writers."""
    for name, table in resolved.items():
        if not table.can_be_locked or name in failures:
            continue
        is_truncated = name in truncate_tables
        mode = _WRITERS_LOCK if is_truncated else _READERS_LOCK
        try:
            with savepoint(cursor):
                cursor.execute(_LOCK.format(table.target, mode))
        except psycopg2.Error as error:
            if error.pgcode is None:
                raise
            reason = translated(error, f"lock {name}", secrets)
            if is_truncated:
                raise reason from None
            failures[name] = reason


def _checked_sources(
    cursor: Cursor, locked: Sequence[ResolvedTable], failures: dict[str, errors.BackupError]
) -> dict[str, TableSource]:
    """The sources of the locked tables, after checking that they are still the same tables."""
    if not locked:
        return {}
    states = read_states(cursor, locked)
    for table in locked:
        has_name, is_guarded = states[table.oid]
        if not has_name:
            failures[table.requested] = _changed(table)
        elif is_guarded:
            failures[table.requested] = errors.PermissionDenied(
                f"Row-level security would hide rows of {table.requested} from this role, so its "
                "backup would have gaps. Back up as the table's owner or as a role with BYPASSRLS."
            )
    usable = [table for table in locked if table.requested not in failures]
    # Before the sources are read, which plans queries and thereby locks newer partitions.
    held = {oid for oid, _ in relation_locks(cursor)}
    sources = read_sources(cursor, usable)
    for table in usable:
        relations = {relation.oid for relation in sources[table.oid].relations}
        if table.can_be_locked and not relations <= held:
            failures[table.requested] = _changed(table)
    return {t.requested: sources[t.oid] for t in usable if t.requested not in failures}


def _changed(table: ResolvedTable) -> errors.BackupError:
    return errors.DatabaseError(
        f"The table {table.requested} was replaced, renamed or given a new partition while it was "
        "being locked. Run the backup again."
    )


def _add_workers(pinned: PinnedSnapshot, workers: int, lock_timeout: float) -> None:
    """Connect as many workers as the largest table has ranges for, all on the one snapshot.

    A single stream is the coordinator's own: a second connection would gain nothing. If the server
    or its pooler has no room for more connections, the export uses those that it got.
    """
    useful = min(workers, max((most_ranges(t) for t in pinned.tables.values()), default=0))
    if useful >= 2 and (refusal := connect_workers(pinned, useful, lock_timeout)) is not None:
        joined = len(pinned.workers)
        used = f"{joined} of {useful} workers" if joined else "one stream (0 workers)"
        pinned.notices.append(f"The tables are read over {used}: {refusal.message}")


def connect_workers(
    pinned: PinnedSnapshot, worker_count: int, lock_timeout: float
) -> errors.BackupError | None:
    """Import the snapshot in `worker_count` connections, or as many as possible; returns the error
    that refused one, if any. Raises `DatabaseError`, and closes all, if one reached another
    server."""
    with pinned.coordinator.cursor() as cursor:
        exported = fetch_value(cursor, "SELECT pg_export_snapshot()")
    try:
        for _ in range(worker_count):
            try:
                worker = connect(pinned.settings, WORKER_PATIENCE_SECONDS)
            except (errors.DatabaseError, errors.ServiceUnavailable) as error:
                return error
            if _join_snapshot(worker, pinned, exported, lock_timeout):
                pinned.workers.append(worker)
    except BaseException:
        pinned.end_workers()
        raise
    return None


def _join_snapshot(
    worker: Connection, pinned: PinnedSnapshot, exported: str, lock_timeout: float
) -> bool:
    """Import the snapshot in a worker; close it and return False if it cannot have its locks at
    once.

    A lock request queued between ours and the worker's (a waiting ALTER is enough) would have the
    worker wait for the ALTER, which waits for the coordinator, which waits for the worker. Raises
    `DatabaseError` if the connection is to another server.
    """
    has_joined = False
    lockable = [t.table.target for t in pinned.tables.values() if t.table.can_be_locked]
    try:
        worker.set_session(isolation_level=ISOLATION_LEVEL_REPEATABLE_READ, readonly=True)
        with worker.cursor() as cursor:
            apply_session_settings(cursor, lock_timeout)
            cursor.execute("SET TRANSACTION SNAPSHOT %s", (exported,))
            if lockable:
                targets: Composable = SQL(", ").join(lockable)
                cursor.execute(_LOCK.format(targets, _READERS_LOCK) + SQL(" NOWAIT"))
            is_same_server = identify_server(cursor).is_same_process_as(pinned.server)
            if is_same_server and _current_snapshot(cursor) == pinned.snapshot:
                has_joined = True
                return True
    except psycopg2.errors.LockNotAvailable:
        return False
    except (psycopg2.errors.InvalidParameterValue, psycopg2.errors.UndefinedObject):
        pass  # The snapshot is unknown there.
    finally:
        if not has_joined:
            close_quietly(worker)
    raise errors.DatabaseError(
        "A worker's connection reached another server than the run's first connection, so it "
        "cannot import the snapshot. Connect to one server directly, not through a load balancer "
        "or pooler that distributes connections, or set workers to 1."
    )
