"""Rows into the server: COPY straight into a table, or by way of a temporary one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Composable, Identifier, Literal

from vector_backup_pipeline.engine.errors import IntegrityError
from vector_backup_pipeline.engine.postgres.ranges import column_list
from vector_backup_pipeline.parameters.types import Format

_STAGE = Identifier("pg_temp", "vector_restore_stage")
# The server takes a message whole before it looks at it. What fits into the socket's buffer (about
# 200 KiB) comes while it parses the message before; with 1 MiB it stood still in between.
_MESSAGE_BYTES = 64 << 10


@dataclass(frozen=True)
class RowStream:
    """What COPY reads: CSV records without a header, or a binary stream with header and trailer.

    `chunks` must not hold empty ones, which would end the stream.
    """

    form: Format
    chunks: Iterator[bytes]


class _Chunks:
    """Chunks of bytes as the file that COPY reads."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._chunk = b""
        self._at = 0

    def read(self, size: int = _MESSAGE_BYTES, /) -> bytes:
        """At most `size` bytes; nothing at the end."""
        if self._at >= len(self._chunk):
            self._chunk, self._at = next(self._chunks, b""), 0
        begin, self._at = self._at, self._at + size
        return self._chunk[begin : self._at]

    # The driver never asks for a line, but its types want to see that it could.
    readline = read


def copy_rows(
    cursor: Cursor,
    table: Composable,
    columns: Sequence[str],
    rows: RowStream,
    where: Composable | None = None,
) -> int:
    """Stream rows into `table`; returns the server's count of them."""
    statement = SQL("COPY {}{} FROM STDIN (FORMAT {})").format(
        table, column_list(columns), SQL(rows.form)
    )
    if where is not None:
        statement = SQL("{} WHERE {}").format(statement, where)
    cursor.copy_expert(statement, _Chunks(rows.chunks), _MESSAGE_BYTES)
    return int(cursor.rowcount)


def any_of(column: str, values: Sequence[str]) -> Composable:
    """`column` is one of `values`, whatever its type: the literal takes the column's own."""
    return SQL("{} = ANY ({})").format(Identifier(column), Literal(_array(values)))


def skip_or_replace(
    cursor: Cursor,
    table: Composable,
    columns: Sequence[str],
    key: Sequence[str],
    rows: RowStream,
    where: Composable | None = None,
    *,
    replaces: bool,
) -> int:
    """Load rows of which some may be there, by their `key`: they are replaced, or left.

    A row that collides with another one otherwise than by the key is an error in both cases.
    Returns the number of rows that were inserted or replaced.
    """
    listed = SQL(", ").join(map(Identifier, columns))
    cursor.execute(
        SQL("CREATE TEMPORARY TABLE {} ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA").format(
            Identifier("vector_restore_stage"), listed, table
        )
    )
    staged = copy_rows(cursor, _STAGE, columns, rows, where)
    cursor.execute(
        # OVERRIDING: an identity column takes the backup's value, as it does from COPY.
        SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {} {}").format(
            table, listed, listed, _STAGE, _on_conflict(columns, key, replaces=replaces)
        )
    )
    written = int(cursor.rowcount)
    if replaces and written != staged:
        raise IntegrityError(
            f"{staged} rows came from the backup but {written} were written: a rule or trigger of "
            "the table interferes. Everything was rolled back."
        )
    cursor.execute(SQL("DROP TABLE {}").format(_STAGE))
    return written


def _on_conflict(columns: Sequence[str], key: Sequence[str], *, replaces: bool) -> Composable:
    keys = SQL(", ").join(map(Identifier, key))
    if not replaces:
        return SQL("ON CONFLICT ({}) DO NOTHING").format(keys)
    # A row of nothing but its key is "replaced" by itself, and so counted.
    changed = [column for column in columns if column not in key] or list(key[:1])
    return SQL("ON CONFLICT ({}) DO UPDATE SET {}").format(
        keys,
        SQL(", ").join(
            SQL("{} = EXCLUDED.{}").format(Identifier(column), Identifier(column))
            for column in changed
        ),
    )


def _array(values: Sequence[str]) -> str:
    quoted = ['"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' for value in values]
    return "{" + ",".join(quoted) + "}"
