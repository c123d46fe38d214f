"""Emptying tables that were backed up, in the transaction that has kept writers out since before
the snapshot. Any doubt before COMMIT, and nothing is truncated."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Literal

import psycopg2
from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL

from vector_backup_pipeline.engine.errors import BackupError, DatabaseError, IntegrityError
from vector_backup_pipeline.engine.interrupts import interruptible
from vector_backup_pipeline.engine.postgres.connection import (
    ConnectionSettings,
    cancel_quietly,
    close_quietly,
    connect,
    database_errors,
)
from vector_backup_pipeline.engine.postgres.server import ServerIdentity, identify_server
from vector_backup_pipeline.engine.postgres.snapshot import WRITERS_LOCK_MODE, PinnedSnapshot
from vector_backup_pipeline.engine.postgres.tables import TableSource, relations_locked_here

# A server that restarts in the middle of a COMMIT is back in seconds, or it is not a question for
# this run any more.
_ASK_TIMES = 10
_ASK_EVERY_SECONDS = 3.0


class CommitUnknown(DatabaseError):
    """The connection was lost while committing, and no server could say how it ended."""


def check_before_truncate(pinned: PinnedSnapshot, exported_rows: Mapping[str, int]) -> None:
    """Hold the tables that `exported_rows` names against what the backup has of each.

    Raises:
        IntegrityError: a row may be missing from the backup.
        DatabaseError: the transaction is gone, and its lock with it.
    """
    tables = [pinned.tables[name] for name in exported_rows]
    with (
        database_errors(f"check {', '.join(exported_rows)}", pinned.settings.secrets),
        pinned.coordinator.cursor() as cursor,
    ):
        _check_writers_are_locked_out(cursor, tables)
        for table in tables:
            rows = interruptible(
                partial(_count, cursor, table),
                cancel=partial(cancel_quietly, pinned.coordinator),
            )
            _check_backup_holds_every_row(table, rows, exported_rows[table.found.requested])


def truncate_tables(pinned: PinnedSnapshot, names: Sequence[str]) -> dict[str, int]:
    """Truncate the tables, all in one statement, and commit; the rows after, by name.

    Raises:
        CommitUnknown: nobody can say whether it happened.
        IntegrityError, LockTimeout, DatabaseError, …: nothing was truncated.
    """
    tables = [pinned.tables[name] for name in names]
    with (
        _rolled_back_on_failure(pinned),
        database_errors(f"truncate {', '.join(names)}", pinned.settings.secrets),
    ):
        with pinned.coordinator.cursor() as cursor:
            in_oid_order = sorted(tables, key=lambda table: table.found.oid)
            targets = SQL(", ").join(table.found.target for table in in_oid_order)
            cursor.execute(SQL("TRUNCATE TABLE {}").format(targets))
            rows_after = {table.found.requested: _count(cursor, table) for table in tables}
            _check_empty(rows_after)
            cursor.execute("SELECT pg_current_xact_id_if_assigned()::text")
            (transaction_id,) = cursor.fetchone() or (None,)
        _commit(pinned, transaction_id)
    return rows_after


@contextlib.contextmanager
def _rolled_back_on_failure(pinned: PinnedSnapshot) -> Iterator[None]:
    """Nobody waits for the locks of a truncate that has failed."""
    try:
        yield
    except BaseException:
        pinned.close()
        raise


def _check_writers_are_locked_out(cursor: Cursor, tables: Sequence[TableSource]) -> None:
    held = {oid for oid, mode in relations_locked_here(cursor) if mode == WRITERS_LOCK_MODE}
    for table in tables:
        if table.found.oid not in held:
            raise IntegrityError(
                f"This run no longer holds its lock against writers on {table.found.requested}, so "
                "rows may have come that the backup lacks. Nothing was truncated; run again."
            )


def _check_backup_holds_every_row(table: TableSource, rows: int, exported: int) -> None:
    if rows != exported:
        raise IntegrityError(
            f"The table {table.found.requested} has {rows} rows but its backup has {exported}. "
            "Nothing was truncated. Keep this backup for examination and report it."
        )


def _check_empty(after: Mapping[str, int]) -> None:
    for name, rows in after.items():
        if rows:
            raise IntegrityError(
                f"After TRUNCATE the table {name} shows {rows} rows; a trigger may have added "
                "them. Everything was rolled back and nothing was truncated."
            )


def _count(cursor: Cursor, table: TableSource) -> int:
    cursor.execute(SQL("SELECT count(*) FROM {}").format(table.found.target))
    (rows,) = cursor.fetchone() or (0,)
    return int(rows)


def _commit(pinned: PinnedSnapshot, transaction_id: str) -> None:
    try:
        pinned.coordinator.commit()
    except psycopg2.Error as error:
        if error.pgcode is not None and not pinned.coordinator.closed:
            raise  # The server answered: it rolled back.
        close_quietly(pinned.coordinator)
        status = _outcome(pinned.settings, pinned.server, transaction_id)
        if status == "aborted":
            raise
        if status == "unknown":
            raise CommitUnknown(
                "The connection was lost while the truncate was being committed, and the server "
                "could not be asked how it ended. The backup is complete either way: see whether "
                "the tables are empty before you write to them."
            ) from error


def _outcome(
    settings: ConnectionSettings, server: ServerIdentity, transaction_id: str
) -> Literal["committed", "aborted", "unknown"]:
    """Ask the server how the transaction ended, for as long as a restart takes."""
    for attempt in range(_ASK_TIMES):
        if attempt:
            time.sleep(_ASK_EVERY_SECONDS)
        try:
            status = _ask_status(settings, server, transaction_id)
        except (BackupError, psycopg2.Error):
            continue  # Not reachable yet; the last attempt leaves it unknown.
        if status in ("committed", "aborted"):
            return "committed" if status == "committed" else "aborted"
    return "unknown"


def _ask_status(
    settings: ConnectionSettings, server: ServerIdentity, transaction_id: str
) -> str | None:
    connection = connect(settings)
    try:
        with connection.cursor() as cursor:
            if not identify_server(cursor).continues(server):
                return None
            cursor.execute("SELECT pg_xact_status(%s::xid8)", (transaction_id,))
            (status,) = cursor.fetchone() or (None,)
            return None if status is None else str(status)
    finally:
        close_quietly(connection)
