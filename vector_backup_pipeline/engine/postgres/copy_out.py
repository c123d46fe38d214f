"""Rows out of the server: COPY's own bytes, or values through a server-side cursor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from psycopg2.extensions import cursor as Cursor
from psycopg2.extensions import new_type, register_type, string_types
from psycopg2.sql import SQL, Identifier

from vector_backup_pipeline.engine.postgres.connection import Connection
from vector_backup_pipeline.engine.postgres.ranges import BlockRange

# What one fetch may bring: a batch counted in rows alone was 180 MB (10,000 rows × 1,536
# dimensions).
_FETCH_BYTES = 2 << 20
# Text is up to about four times its stored form for float4 ("-0.12345678," for four bytes); TOAST
# compression can beat that, so the rows seen so far count too.
_TEXT_EXPANSION = 4

Row = tuple[str | None, ...]


class RowSink(Protocol):
    """Takes one CSV record with its line end a call: the server sends a row a message
    (PostgreSQL documentation, "Message Formats", CopyData)."""

    def write(self, record: bytes, /) -> object: ...


def copy_range(
    connection: Connection, rows: BlockRange, columns: tuple[str, ...], sink: RowSink
) -> int:
    """Stream a range as CSV records without a header; returns the server's count of rows."""
    statement = SQL("COPY ({}) TO STDOUT (FORMAT csv)").format(rows.query(columns))
    with connection.cursor() as cursor:
        cursor.copy_expert(statement, sink)
        return int(cursor.rowcount)


def fetch_range(
    connection: Connection, rows: BlockRange, columns: tuple[str, ...], batch_size: int
) -> Iterator[Row]:
    """Read a range through a named cursor: each value as its type's own output, NULL as None."""
    widest = _widest_row(connection, rows, columns)
    cursor = connection.cursor(name="vector_backup", scrollable=False)
    try:
        _take_values_as_text(cursor)
        cursor.execute(rows.query(columns))
        size = max(1, min(batch_size, _FETCH_BYTES // max(1, widest * _TEXT_EXPANSION)))
        while batch := cursor.fetchmany(size):
            yield from batch
            size = _next_size(batch, size, batch_size)
    finally:
        cursor.close()


def _next_size(batch: list[Row], size: int, batch_size: int) -> int:
    """As many rows as fit by the widest of the last batch, growing at most twofold."""
    widest = max(sum(len(value) for value in row if value is not None) for row in batch)
    return max(1, min(batch_size, 2 * size, _FETCH_BYTES // max(1, widest)))


def _widest_row(connection: Connection, rows: BlockRange, columns: tuple[str, ...]) -> int:
    """Bytes of the range's largest row as stored; reads no TOAST."""
    sizes = [SQL("coalesce(pg_column_size({}), 0)").format(Identifier(name)) for name in columns]
    with connection.cursor() as cursor:
        cursor.execute(rows.select(SQL("max({})").format(SQL(" + ").join(sizes or [SQL("0")]))))
        (widest,) = cursor.fetchone() or (None,)
    return int(widest or 0)


def _take_values_as_text(cursor: Cursor) -> None:
    """Leave values as the server wrote them; the driver would make Python objects of them."""
    oids = tuple(string_types)
    register_type(new_type(oids, "AS_WRITTEN", lambda value, _cursor: value), cursor)
