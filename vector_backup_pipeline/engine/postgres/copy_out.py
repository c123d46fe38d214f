"""Reading rows: the bytes of COPY, or values through a server-side cursor."""

import contextlib
from collections.abc import Iterator
from typing import Protocol

from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor
from psycopg2.extensions import new_type, register_type, string_types
from psycopg2.sql import SQL, Identifier, Literal

from vector_backup_pipeline.engine.postgres.ranges import BlockRange
from vector_backup_pipeline.engine.postgres.session import fetch_value, own_search_path
from vector_backup_pipeline.parameters.types import Format

# The limit of a fetch: a batch limited by rows alone took 180 MB (10,000 rows × 1,536 dimensions).
_FETCH_BYTES = 2 << 20
# How many times longer a value's text is than its stored form, at most: a bit becomes a character,
# two bytes of a halfvec "-6.1035156e-05,". Longer texts (arrays of NULL) shorten the next fetches.
_TEXT_EXPANSION = 8
# The first with pg_column_compression(). Older servers compress values too, but don't tell.
_COMPRESSION_KNOWN_SINCE = 140000
# TOAST is read for compressed values alone, and not for text, whose pointer holds its length.
_TEXT_SIZE = SQL("""coalesce(
    CASE WHEN pg_catalog.pg_typeof({column}) OPERATOR(pg_catalog.=)
              ANY ('{{pg_catalog.text,pg_catalog.varchar}}'::pg_catalog.regtype[])
           OR {is_compressed}
         THEN pg_catalog.octet_length({column}::pg_catalog.text)::bigint
         ELSE pg_catalog.pg_column_size({column})::bigint OPERATOR(pg_catalog.*) {expansion} END, 0)
""")

Row = tuple[str | None, ...]


class RowSink(Protocol):
    """Takes one row a call, as a CSV record with its line end or a binary tuple: the server sends a
    row a message (PostgreSQL documentation, "Message Formats", CopyData)."""

    def write(self, message: bytes, /) -> object: ...


def copy_range(
    connection: Connection, rows: BlockRange, columns: tuple[str, ...], form: Format, sink: RowSink
) -> int:
    """Stream a range, CSV without a header, binary with header and trailer; returns the server's
    count of rows."""
    statement = SQL("COPY {} TO STDOUT (FORMAT {})").format(rows.copy_source(columns), SQL(form))
    with connection.cursor() as cursor:
        with contextlib.nullcontext() if rows.needs_no_plan else _planned(connection, rows):
            cursor.copy_expert(statement, sink)
        return int(cursor.rowcount)


def fetch_range(
    connection: Connection, rows: BlockRange, columns: tuple[str, ...], batch_size: int
) -> Iterator[Row]:
    """Read a range through a named cursor: each value as its type's own output, NULL as None."""
    most = _rows_that_fit(_widest_row(connection, rows, columns), batch_size)
    cursor = connection.cursor(name="vector_backup", scrollable=False)
    try:
        # Keep the values as the server wrote them; by default the driver converts them.
        as_text = new_type(tuple(string_types), "AS_TEXT", lambda value, _cursor: value)
        register_type(as_text, cursor)
        with _planned(connection, rows):
            cursor.execute(rows.query(columns))  # The values come under the empty path again.
        size = most
        while batch := cursor.fetchmany(size):
            widest = max(sum(len(value) for value in row if value is not None) for row in batch)
            size = min(2 * size, _rows_that_fit(widest, most))
            batch.reverse()
            while batch:  # A row may be large: don't keep it until the next fetch.
                yield batch.pop()
    finally:
        cursor.close()


@contextlib.contextmanager
def _planned(connection: Connection, rows: BlockRange) -> Iterator[Cursor]:
    """A cursor; under the role's own search path if no query can be planned under the empty one."""
    with connection.cursor() as cursor:
        path = contextlib.nullcontext() if rows.relation.plannable else own_search_path(cursor)
        with path:
            yield cursor


def _rows_that_fit(widest: int, at_most: int) -> int:
    return max(1, min(at_most, _FETCH_BYTES // max(1, widest)))


def _widest_row(connection: Connection, rows: BlockRange, columns: tuple[str, ...]) -> int:
    """The bytes of the range's longest row as text, estimated from the stored sizes."""
    is_known = connection.server_version >= _COMPRESSION_KNOWN_SINCE
    is_compressed = SQL("pg_catalog.pg_column_compression({}) IS NOT NULL" if is_known else "false")
    sizes = [
        _TEXT_SIZE.format(
            column=Identifier(column),
            is_compressed=is_compressed.format(Identifier(column)),
            expansion=Literal(_TEXT_EXPANSION),
        )
        for column in columns
    ]
    total = SQL(" OPERATOR(pg_catalog.+) ").join(sizes or [SQL("0")])
    with _planned(connection, rows) as cursor:
        widest = fetch_value(cursor, rows.select(SQL("pg_catalog.max({})").format(total)))
    return int(widest or 0)
