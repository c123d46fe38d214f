"""Emptying tables that were backed up, in the transaction that has kept writers out since before
the snapshot. Any doubt before COMMIT, and nothing is truncated."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL

from vector_backup_pipeline.engine.errors import IntegrityError
from vector_backup_pipeline.engine.postgres.commit import commit_or_learn
from vector_backup_pipeline.engine.postgres.connection import database_errors
from vector_backup_pipeline.engine.postgres.copy_out import count_by_copy
from vector_backup_pipeline.engine.postgres.session import own_search_path
from vector_backup_pipeline.engine.postgres.snapshot import WRITERS_LOCK_MODE, PinnedSnapshot
from vector_backup_pipeline.engine.postgres.tables import TableSource, relations_locked_here

_IF_UNKNOWN = (
    "The connection was lost while the truncate was being committed, and the server could not be "
    "asked how it ended. The backup is complete either way: see whether the tables are empty "
    "before you write to them."
)


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
            rows = _count(cursor, table)
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
            # Triggers, and indexes that the server rebuilds, may rely on the role's own path.
            with own_search_path(cursor):
                cursor.execute(SQL("TRUNCATE TABLE {}").format(targets))
            rows_after = {table.found.requested: _count(cursor, table) for table in tables}
            _check_empty(rows_after)
        commit_or_learn(pinned.coordinator, pinned.settings, pinned.server, _IF_UNKNOWN)
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
    if not table.plannable:
        return count_by_copy(cursor.connection, table)
    cursor.execute(SQL("SELECT count(*) FROM {}").format(table.found.target))
    (rows,) = cursor.fetchone() or (0,)
    return int(rows)
