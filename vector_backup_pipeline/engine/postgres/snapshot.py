"""One snapshot for all tables of a run, held by a coordinating transaction.

The order is what keeps rows safe. Names and privileges are read in a transaction of their own. The
coordinating transaction then sends only SET LOCAL, SAVEPOINT and LOCK, none of which fixes its
snapshot; so every writer that finished before a lock was granted is inside the snapshot, and while
the writers' lock is held none can follow. Only then is the snapshot exported to the workers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import psycopg2
from psycopg2 import errorcodes
from psycopg2.extensions import ISOLATION_LEVEL_REPEATABLE_READ
from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Composable

from vector_backup_pipeline.engine.errors import (
    BackupError,
    DatabaseError,
    InvalidParams,
    PermissionDenied,
    ServiceUnavailable,
)
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
from vector_backup_pipeline.engine.postgres.session import allow_writes, apply_session_settings
from vector_backup_pipeline.engine.postgres.tables import (
    FoundTable,
    TableSource,
    find_table,
    read_sources,
    relations_locked_here,
    tables_guarded_by_policies,
    tables_still_named,
)

_READERS_LOCK = SQL("ACCESS SHARE")
# Stops writers and a second truncating run, lets readers be (PostgreSQL, "Table-Level Locks").
_WRITERS_LOCK = SQL("SHARE ROW EXCLUSIVE")
WRITERS_LOCK_MODE = "ShareRowExclusiveLock"

_LOCK = SQL("LOCK TABLE {} IN {} MODE")


@dataclass
class PinnedSnapshot:
    """The open transactions of a run. `close` ends them all.

    `tables` and `failures` are by the caller's names; together they hold every table asked for.
    `truncate_refusal` says why nothing may be truncated in this run, None if it may. `notices` are
    for the run's result.
    """

    settings: ConnectionSettings
    server: ServerIdentity
    coordinator: Connection
    snapshot: str
    tables: dict[str, TableSource]
    failures: dict[str, BackupError]
    truncate_refusal: BackupError | None
    workers: list[Connection] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def streams(self) -> list[Connection]:
        """The connections an export may use: the workers, or with none left the coordinator."""
        self.workers = [worker for worker in self.workers if not worker.closed]
        return list(self.workers) or [self.coordinator]

    def end_workers(self) -> None:
        """End the workers' transactions, whose locks would stand in a truncate's way."""
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

    A table that is missing, unreadable or not to be locked becomes a failure of its own. If the
    writers' lock on `truncate_tables` is refused, the snapshot is taken without it.

    Raises:
        ServiceUnavailable, DatabaseError: nothing can be read at all.
    """
    coordinator = connect(settings)
    try:
        with database_errors("pin the snapshot", settings.secrets):
            pinned = _pin(coordinator, settings, tables, truncate_tables, lock_timeout)
            _add_workers(pinned, workers, lock_timeout)
        return pinned
    except BaseException:
        close_quietly(coordinator)
        raise


def _pin(
    coordinator: Connection,
    settings: ConnectionSettings,
    tables: Sequence[str],
    truncate_tables: Sequence[str],
    lock_timeout: float,
) -> PinnedSnapshot:
    coordinator.set_session(isolation_level=ISOLATION_LEVEL_REPEATABLE_READ)
    found, failures = _find_tables(coordinator, tables)
    with coordinator.cursor() as cursor:
        server = identify_server(cursor)
        coordinator.commit()
        apply_session_settings(cursor, lock_timeout)
        if truncate_tables and not server.in_recovery:
            allow_writes(cursor)
        locked, refusal = _lock_tables(cursor, found, failures, truncate_tables, settings.secrets)
        cursor.execute("SELECT pg_current_snapshot()::text")
        (snapshot,) = cursor.fetchone() or ("",)
        sources = _checked_sources(cursor, locked, failures)
    return PinnedSnapshot(
        settings=settings,
        server=server,
        coordinator=coordinator,
        snapshot=snapshot,
        tables={name: sources[name] for name in tables if name in sources},
        failures={name: failures[name] for name in tables if name in failures},
        truncate_refusal=refusal,
    )


def _find_tables(
    coordinator: Connection, tables: Sequence[str]
) -> tuple[dict[str, FoundTable], dict[str, BackupError]]:
    found: dict[str, FoundTable] = {}
    failures: dict[str, BackupError] = {}
    with coordinator.cursor() as cursor:
        for name in tables:
            try:
                table = find_table(cursor, name)
                _check_is_another(table, found.values())
            except BackupError as error:
                failures[name] = error
            else:
                found[name] = table
    return found, failures


def _check_is_another(table: FoundTable, others: Iterable[FoundTable]) -> None:
    for other in others:
        if other.oid == table.oid:
            raise InvalidParams(
                f"{table.requested} and {other.requested} are the same table. Name it once."
            )


def _lock_tables(
    cursor: Cursor,
    found: Mapping[str, FoundTable],
    failures: dict[str, BackupError],
    truncate_tables: Sequence[str],
    secrets: tuple[str, ...],
) -> tuple[list[FoundTable], BackupError | None]:
    """Lock every table found, adding to `failures` those that can't be.

    First with the writers' lock on `truncate_tables`; when that is refused for any of them, all
    over again without it, so that no writer waits for a truncate that will not come.
    """
    in_oid_order = sorted(found.values(), key=lambda table: table.oid)
    refusal = _refusal_before_locking(found, failures, truncate_tables)
    if truncate_tables and refusal is None:
        writers_locked = {found[name].oid for name in truncate_tables}
        with _savepoint(cursor) as undo:
            for table in in_oid_order:
                is_truncated = table.oid in writers_locked
                mode = _WRITERS_LOCK if is_truncated else _READERS_LOCK
                error = _try_lock(cursor, table, mode, secrets)
                if error is not None and is_truncated:
                    refusal = error
                    break
                if error is not None:
                    failures[table.requested] = error
            if refusal is not None:
                undo()
    if not truncate_tables or refusal is not None:
        for table in in_oid_order:
            if table.requested not in failures:
                error = _try_lock(cursor, table, _READERS_LOCK, secrets)
                if error is not None:
                    failures[table.requested] = error
    return [table for table in in_oid_order if table.requested not in failures], refusal


def _refusal_before_locking(
    found: Mapping[str, FoundTable],
    failures: Mapping[str, BackupError],
    truncate_tables: Sequence[str],
) -> BackupError | None:
    for name in truncate_tables:
        if name in failures:
            return failures[name]
        if found[name].truncate_refusal is not None:
            return found[name].truncate_refusal
    return None


def _try_lock(
    cursor: Cursor, table: FoundTable, mode: Composable, secrets: tuple[str, ...]
) -> BackupError | None:
    if not table.can_be_locked:
        return None
    with _savepoint(cursor) as undo:
        try:
            cursor.execute(_LOCK.format(table.target, mode))
        except psycopg2.Error as error:
            if error.pgcode is None:
                raise
            undo()
            return translated(error, f"lock {table.requested}", secrets)
    return None


@contextlib.contextmanager
def _savepoint(cursor: Cursor) -> Iterator[Callable[[], None]]:
    """A savepoint and the way back to it; always released, since a snapshot can't be exported
    from a subtransaction."""
    cursor.execute("SAVEPOINT locking")
    yield lambda: cursor.execute("ROLLBACK TO SAVEPOINT locking")
    cursor.execute("RELEASE SAVEPOINT locking")


def _checked_sources(
    cursor: Cursor, locked: Sequence[FoundTable], failures: dict[str, BackupError]
) -> dict[str, TableSource]:
    """The sources of the locked tables, after checking that they are still what was found."""
    if not locked:
        return {}
    still_named = tables_still_named(cursor, locked)
    guarded = tables_guarded_by_policies(cursor, [table.oid for table in locked])
    for table in locked:
        if table.oid not in still_named:
            failures[table.requested] = _changed(table)
        elif table.oid in guarded:
            failures[table.requested] = PermissionDenied(
                f"Row-level security would hide rows of {table.requested} from this role, so its "
                "backup would have gaps. Back up as the table's owner or as a role with BYPASSRLS."
            )
    usable = [table for table in locked if table.requested not in failures]
    # Before the sources are read, which plans queries and thereby locks what came since.
    held = {oid for oid, _ in relations_locked_here(cursor)}
    sources = read_sources(cursor, usable)
    for table in usable:
        relations = {relation.oid for relation in sources[table.oid].relations}
        if table.can_be_locked and not relations <= held:
            failures[table.requested] = _changed(table)
    return {t.requested: sources[t.oid] for t in usable if t.requested not in failures}


def _changed(table: FoundTable) -> BackupError:
    return DatabaseError(
        f"The table {table.requested} was replaced, renamed or given a new partition while it was "
        "being locked. Run the backup again."
    )


def _add_workers(pinned: PinnedSnapshot, workers: int, lock_timeout: float) -> None:
    """Connect as many workers as the largest table has ranges for, all on the one snapshot.

    A single stream is the coordinator's own: a second connection would gain nothing. If the server
    or its pooler has no room for more connections, the export uses those that came.
    """
    wanted = min(workers, max((most_ranges(t) for t in pinned.tables.values()), default=0))
    if wanted >= 2 and (refusal := connect_workers(pinned, wanted, lock_timeout)) is not None:
        came = len(pinned.workers)
        used = f"{came} of {wanted} workers" if came else "one stream (0 workers)"
        pinned.notices.append(f"The tables are read over {used}: {refusal.message}")


def connect_workers(pinned: PinnedSnapshot, wanted: int, lock_timeout: float) -> BackupError | None:
    """Let `wanted` connections join the snapshot, or as many as can; returns why one was refused.

    Raises:
        DatabaseError: a connection reached another server; none of them is left.
    """
    refusal: BackupError | None = None
    with pinned.coordinator.cursor() as cursor:
        cursor.execute("SELECT pg_export_snapshot()")
        (exported,) = cursor.fetchone() or ("",)
    try:
        for _ in range(wanted):
            try:
                worker = connect(pinned.settings, WORKER_PATIENCE_SECONDS)
            except (DatabaseError, ServiceUnavailable) as error:
                refusal = error
                break
            if _join_snapshot(worker, pinned, exported, lock_timeout):
                pinned.workers.append(worker)
    except BaseException:
        pinned.end_workers()
        raise
    return refusal


def _join_snapshot(
    worker: Connection, pinned: PinnedSnapshot, exported: str, lock_timeout: float
) -> bool:
    """Take a worker into the snapshot; close it and say False if it can't have its locks at once.

    A lock request queued between ours and the worker's (a waiting ALTER is enough) would have the
    worker wait for the ALTER, which waits for the coordinator, which waits for the worker.

    Raises:
        DatabaseError: the connection is to another server.
    """
    try:
        worker.set_session(isolation_level=ISOLATION_LEVEL_REPEATABLE_READ, readonly=True)
        with worker.cursor() as cursor:
            apply_session_settings(cursor, lock_timeout)
            try:
                cursor.execute("SET TRANSACTION SNAPSHOT %s", (exported,))
            except (psycopg2.errors.InvalidParameterValue, psycopg2.errors.UndefinedObject) as err:
                raise _another_server() from err
            if not _lock_at_once(cursor, pinned):
                close_quietly(worker)
                return False
            if not _sees_the_same(cursor, pinned):
                raise _another_server()
    except BaseException:
        close_quietly(worker)
        raise
    return True


def _lock_at_once(cursor: Cursor, pinned: PinnedSnapshot) -> bool:
    lockable = [t.found.target for t in pinned.tables.values() if t.found.can_be_locked]
    if not lockable:
        return True
    statement = _LOCK.format(SQL(", ").join(lockable), _READERS_LOCK) + SQL(" NOWAIT")
    try:
        cursor.execute(statement)
    except psycopg2.Error as error:
        if error.pgcode != errorcodes.LOCK_NOT_AVAILABLE:
            raise
        return False
    return True


def _sees_the_same(cursor: Cursor, pinned: PinnedSnapshot) -> bool:
    cursor.execute("SELECT pg_current_snapshot()::text")
    (snapshot,) = cursor.fetchone() or ("",)
    same_server = identify_server(cursor).is_same_process_as(pinned.server)
    return same_server and snapshot == pinned.snapshot


def _another_server() -> BackupError:
    return DatabaseError(
        "A worker's connection reached another server than the run's first connection, so it "
        "can't share the snapshot. Connect to one server directly, not to a balancer or pooler "
        "that spreads connections, or set workers to 1."
    )
