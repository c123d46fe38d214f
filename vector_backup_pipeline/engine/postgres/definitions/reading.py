"""Asking the catalogs: rows by name, grouped by table, and reads that may have to be given up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")

# A catalog row by column name. It ends in a noun of `table_definition` a few lines later.
Row = dict[str, Any]

# The first OID that initdb never gives (FirstNormalObjectId): what is below comes with the server.
FIRST_USER_OID = 16384
POSTGRES_14, POSTGRES_15, POSTGRES_16, POSTGRES_17 = 140000, 150000, 160000, 170000
# Long enough for a lock held for a moment, short enough that nobody queues behind us for long.
_SIDE_LOCK_TIMEOUT = "200ms"
_GIVE_UP = "SAVEPOINT vector_backup_side_read"
_UNDO = "ROLLBACK TO SAVEPOINT vector_backup_side_read; RELEASE SAVEPOINT vector_backup_side_read"


def server_version(cursor: Cursor) -> int:
    return int(cursor.connection.server_version)


def rows(cursor: Cursor, query: str | sql.Composable, **parameters: object) -> list[Row]:
    # Without parameters psycopg2 leaves `%` alone, which a quoted name may hold.
    cursor.execute(query, parameters or None)
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def since(cursor: Cursor, version: int, expression: str, otherwise: str) -> sql.SQL:
    """`expression` on servers that have the catalog column, else `otherwise`."""
    return sql.SQL(expression if server_version(cursor) >= version else otherwise)


def grouped(
    found: Iterable[Row], key: Callable[[Row], _K], value: Callable[[Row], _V]
) -> dict[_K, list[_V]]:
    groups: dict[_K, list[_V]] = defaultdict(list)
    for row in found:
        groups[key(row)].append(value(row))
    return groups


def not_internal(alias: str) -> sql.Composed:
    """That the row of pg_constraint called `alias` is a constraint that somebody declared.

    A foreign key to a partitioned table has an internal row for each partition of that table.
    Unlike a partition's copy of its parent's constraint, it belongs to the same table as its parent
    row.
    """
    return sql.SQL(
        "NOT EXISTS (SELECT FROM pg_catalog.pg_constraint above"
        " WHERE above.oid = {row}.conparentid AND above.conrelid = {row}.conrelid)"
    ).format(row=sql.Identifier(alias))


def options(stored: Sequence[str] | None) -> dict[str, str]:
    """`{fillfactor=70}` of reloptions and attoptions; only a value may hold another `=`."""
    return dict(each.split("=", 1) for each in stored or ())


@contextmanager
def side_read(cursor: Cursor) -> Iterator[None]:
    """A read that locks something other than the tables, for its own moment only.

    Rolled back in any case: that gives back the locks taken inside (a subtransaction's locks go
    with its rollback) and our short `lock_timeout`. It writes nothing, so nothing is lost.
    """
    cursor.execute(_GIVE_UP)
    try:
        cursor.execute(
            "SELECT pg_catalog.set_config('lock_timeout', %s, true)", (_SIDE_LOCK_TIMEOUT,)
        )
        yield
    except BaseException:
        # A connection that is gone must not hide why.
        with suppress(psycopg2.OperationalError, psycopg2.InterfaceError):
            cursor.execute(_UNDO)
        raise
    cursor.execute(_UNDO)


def text(cursor: Cursor, statement: sql.Composable) -> str:
    """The statement as text, its names quoted for this connection's encoding."""
    return str(statement.as_string(cursor))
