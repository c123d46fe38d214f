"""What a backup does with its connection, tried on a few rows; nothing is changed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import psycopg2
from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Composable, Identifier, Literal

from vector_backup_pipeline.engine.errors import DatabaseError
from vector_backup_pipeline.engine.postgres.connection import (
    Connection,
    ConnectionSettings,
    connect,
    database_errors,
)
from vector_backup_pipeline.engine.postgres.lost_session import naming_the_connection
from vector_backup_pipeline.engine.postgres.session import own_search_path
from vector_backup_pipeline.engine.postgres.tables import TableSource

_SAMPLE_BLOCKS = 20


@dataclass(frozen=True)
class Destination:
    """Where a connection leads, without its password. `encryption` is None where there is none."""

    database: str
    host: str
    port: int
    user: str
    encryption: str | None


@dataclass(frozen=True)
class Sample:
    """A few of a table's rows, or all of them: how many, and their bytes as CSV."""

    rows: int
    size: int
    is_whole: bool


class _Counter:
    def __init__(self) -> None:
        self.size = 0

    def write(self, record: bytes) -> None:
        self.size += len(record)


def read_destination(connection: Connection) -> Destination:
    info = connection.info
    encryption = info.ssl_attribute("protocol") if info.ssl_in_use else None
    return Destination(info.dbname, info.host or "", info.port, info.user, encryption)


def connect_to_look(settings: ConnectionSettings) -> Connection:
    """A connection whose transactions only read.

    Raises:
        ServiceUnavailable, DatabaseError: as `connect`.
    """
    connection = connect(settings)
    # Not in autocommit, where psycopg2 would set it for the session, which a pooler keeps.
    connection.set_session(readonly=True)
    return connection


def read_clock(cursor: Cursor) -> datetime:
    """The server's time, now and not as of the transaction's beginning."""
    cursor.execute("SELECT clock_timestamp()")
    row: tuple[datetime] | None = cursor.fetchone()
    if row is None:
        raise DatabaseError("The server did not tell its time. Check what stands before it.")
    return row[0]


def copy_sample(
    connection: Connection, table: TableSource, most_rows: int, secrets: tuple[str, ...]
) -> Sample:
    """Rows from all over the table by COPY. The transaction goes on after a failure.

    Raises:
        PermissionDenied, DatabaseError: the server refuses.
    """
    sink = _Counter()
    with undone_on_failure(
        connection, f"read {table.found.requested} with COPY", secrets
    ) as cursor:
        spread = _spread(table)
        query = _some_rows(table, most_rows, spread)
        with naming_the_connection(connection):
            cursor.copy_expert(SQL("COPY ({}) TO STDOUT (FORMAT csv)").format(query), sink)
        rows = max(0, cursor.rowcount)
        return Sample(rows, sink.size, is_whole=spread is None and rows < most_rows)


def fetch_sample(
    connection: Connection, table: TableSource, most_rows: int, secrets: tuple[str, ...]
) -> int:
    """The first rows by a server-side cursor, as export_method 'cursor' reads; how many came.

    Raises:
        PermissionDenied, DatabaseError: the server refuses.
    """
    with (
        undone_on_failure(
            connection, f"read {table.found.requested} with a cursor", secrets
        ) as settings,
        contextlib.nullcontext() if table.plannable else own_search_path(settings),
        connection.cursor(name="vector_backup_check", scrollable=False) as cursor,
    ):
        cursor.execute(_some_rows(table, most_rows, None))
        return len(cursor.fetchall())


def _some_rows(table: TableSource, most_rows: int, spread: Composable | None) -> Composable:
    columns = SQL(", ").join(map(Identifier, table.columns))
    return SQL("SELECT {} FROM {}{} LIMIT {}").format(
        columns, table.found.target, spread or SQL(""), Literal(most_rows)
    )


def _spread(table: TableSource) -> Composable | None:
    """Pages from all over the table, since its oldest rows may be of another kind; None where it
    is small or can't be sampled, and is read from its beginning."""
    blocks = sum(relation.blocks for relation in table.relations)
    can_be_sampled = all(relation.by_ranges for relation in table.relations)
    if blocks <= _SAMPLE_BLOCKS or not can_be_sampled:
        return None
    percent = Literal(100 * _SAMPLE_BLOCKS / blocks)
    # The same pages each time, so that two checks tell the same.
    return SQL(" TABLESAMPLE SYSTEM ({}) REPEATABLE (0)").format(percent)


@contextlib.contextmanager
def undone_on_failure(
    connection: Connection, action: str, secrets: tuple[str, ...]
) -> Iterator[Cursor]:
    """A cursor for what may be refused: the transaction goes on after it.

    Raises:
        BackupError: the server's refusal: "Could not {action}: …".
    """
    with database_errors(action, secrets), connection.cursor() as cursor:
        cursor.execute("SAVEPOINT trial")
        try:
            yield cursor
        except BaseException:
            with contextlib.suppress(psycopg2.Error):
                # Released too: a snapshot can't be exported from a subtransaction.
                cursor.execute("ROLLBACK TO SAVEPOINT trial; RELEASE SAVEPOINT trial")
            raise
        cursor.execute("RELEASE SAVEPOINT trial")
