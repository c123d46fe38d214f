"""Rows out of the server: COPY's own bytes, or values through a server-side cursor."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Protocol

from psycopg2.extensions import cursor as Cursor
from psycopg2.extensions import new_type, register_type, string_types
from psycopg2.sql import SQL, Identifier, Literal

from vector_backup_pipeline.engine.postgres.connection import Connection
from vector_backup_pipeline.engine.postgres.lost_session import naming_the_connection
from vector_backup_pipeline.engine.postgres.ranges import BlockRange
from vector_backup_pipeline.engine.postgres.session import own_search_path
from vector_backup_pipeline.engine.postgres.tables import TableSource
from vector_backup_pipeline.parameters.types import Format

# What one fetch may bring: a batch counted in rows alone was 180 MB (10,000 rows × 1,536
# dimensions).
_FETCH_BYTES = 2 << 20
# How much longer a value's text is than its stored form: a bit is a character, two bytes of a
# halfvec "-6.1035156e-05,". Where one beats that (an array of NULLs), the rows seen so far count.
_TEXT_EXPANSION = 8
# pg_column_compression(); older servers compress too, but can't be asked.
_TELLS_COMPRESSION_SINCE = 140000

Row = tuple[str | None, ...]


class RowSink(Protocol):
    """Takes one row a call, as a CSV record with its line end or a binary tuple: the server sends a
    row a message (PostgreSQL documentation, "Message Formats", CopyData)."""

    def write(self, message: bytes, /) -> object: ...


def copy_range(
    connection: Connection,
    rows: BlockRange,
    columns: tuple[str, ...],
    form: Format,
    sink: RowSink,
) -> int:
    """Stream a range, CSV without a header, binary with header and trailer; returns the server's
    count of rows."""
    statement = SQL("COPY {} TO STDOUT (FORMAT {})").format(rows.copy_source(columns), SQL(form))
    with connection.cursor() as cursor, naming_the_connection(connection):
        with contextlib.nullcontext() if rows.needs_no_plan else _plannable(connection, rows):
            cursor.copy_expert(statement, sink)
        return int(cursor.rowcount)


class _Discard:
    def write(self, message: bytes, /) -> None:
        """Only the server's count matters."""


def count_by_copy(connection: Connection, table: TableSource) -> int:
    """Count rows without a query, for a table whose queries can't be planned."""
    return sum(
        copy_range(connection, BlockRange(relation, 0, None), table.columns[:1], "csv", _Discard())
        for relation in table.relations
    )


@contextlib.contextmanager
def _plannable(connection: Connection, rows: BlockRange) -> Iterator[None]:
    """Plan under the role's own search path what can't be planned under the empty one."""
    if rows.relation.plannable:
        yield
    else:
        with connection.cursor() as cursor, own_search_path(cursor):
            yield


def fetch_range(
    connection: Connection, rows: BlockRange, columns: tuple[str, ...], batch_size: int
) -> Iterator[Row]:
    """Read a range through a named cursor: each value as its type's own output, NULL as None."""
    most = _rows_that_fit(_widest_row(connection, rows, columns), batch_size)
    cursor = connection.cursor(name="vector_backup", scrollable=False)
    try:
        _take_values_as_text(cursor)
        with _plannable(connection, rows):
            cursor.execute(rows.query(columns))  # The values come under the empty path again.
        size = most
        while batch := cursor.fetchmany(size):
            widest = max(sum(len(value) for value in row if value is not None) for row in batch)
            size = min(2 * size, _rows_that_fit(widest, most))
            batch.reverse()
            while batch:  # A row may be large, so none is kept until the next ones come.
                yield batch.pop()
    finally:
        cursor.close()


def _rows_that_fit(widest: int, at_most: int) -> int:
    return max(1, min(at_most, _FETCH_BYTES // max(1, widest)))


# TOAST is read for compressed values alone, and not for text, whose length its pointer tells.
_TEXT_SIZE = SQL("""
    CASE WHEN pg_catalog.pg_typeof({column}) OPERATOR(pg_catalog.=)
              ANY ('{{pg_catalog.text,pg_catalog.varchar}}'::pg_catalog.regtype[])
           OR {is_compressed}
         THEN pg_catalog.octet_length({column}::pg_catalog.text)::bigint
         ELSE pg_catalog.pg_column_size({column})::bigint OPERATOR(pg_catalog.*) {expansion} END
""")


def _widest_row(connection: Connection, rows: BlockRange, columns: tuple[str, ...]) -> int:
    """Bytes of the range's longest row as text, at most; by what is stored, so not exact."""
    can_tell = connection.server_version >= _TELLS_COMPRESSION_SINCE
    is_compressed = SQL("pg_catalog.pg_column_compression({}) IS NOT NULL" if can_tell else "false")
    sizes = [
        SQL("coalesce({}, 0)").format(
            _TEXT_SIZE.format(
                column=column,
                is_compressed=is_compressed.format(column),
                expansion=Literal(_TEXT_EXPANSION),
            )
        )
        for column in map(Identifier, columns)
    ]
    with connection.cursor() as cursor, _plannable(connection, rows):
        cursor.execute(
            rows.select(
                SQL("pg_catalog.max({})").format(
                    SQL(" OPERATOR(pg_catalog.+) ").join(sizes or [SQL("0")])
                )
            )
        )
        (widest,) = cursor.fetchone() or (None,)
    return int(widest or 0)


def _take_values_as_text(cursor: Cursor) -> None:
    """Leave values as the server wrote them; the driver would make Python objects of them."""
    oids = tuple(string_types)
    register_type(new_type(oids, "AS_WRITTEN", lambda value, _cursor: value), cursor)
