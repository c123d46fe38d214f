"""Loading rows: COPY directly into a table, or through a temporary table."""

from collections.abc import Iterator, Sequence

import psycopg2
from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Composable, Identifier

from vector_backup_pipeline.engine.chunk_reader import ChunkReader
from vector_backup_pipeline.engine.errors import IntegrityError
from vector_backup_pipeline.engine.postgres.ranges import column_list
from vector_backup_pipeline.parameters.types import Format

_STAGE = Identifier("pg_temp", "vector_restore_stage")
# The server receives a whole message before it parses it. The next message arrives meanwhile if it
# fits into the socket's buffer (about 200 KiB); with 1 MiB, the server waited for each one.
_MESSAGE_BYTES = 64 << 10


def copy_rows(
    cursor: Cursor,
    table: Composable,
    columns: Sequence[str],
    form: Format,
    chunks: Iterator[bytes],
    where: Composable | None = None,
) -> int:
    """Stream rows into `table`; returns the server's count of them.

    `chunks` are CSV records without a header, or a binary stream with header and trailer. None is
    empty, which would end the stream.
    """
    statement = SQL("COPY {}{} FROM STDIN (FORMAT {})").format(
        table, column_list(columns), SQL(form)
    )
    if where is not None:
        statement = SQL("{} WHERE {}").format(statement, where)
    reader = ChunkReader(chunks)
    try:
        cursor.copy_expert(statement, reader, _MESSAGE_BYTES)
    except psycopg2.Error as error:
        if reader.error is None:
            raise
        raise reader.error from error
    return int(cursor.rowcount)


def skip_or_replace(
    cursor: Cursor,
    table: Composable,
    columns: Sequence[str],
    key: Sequence[str],
    form: Format,
    chunks: Iterator[bytes],
    where: Composable | None = None,
    *,
    replaces: bool,
) -> int:
    """Load rows of which some may exist, identified by `key`: these are replaced or skipped.

    A row that collides with another one in something else than the key is an error in both cases.
    Returns the number of rows that were inserted or replaced.
    """
    listed = SQL(", ").join(map(Identifier, columns))
    cursor.execute(
        SQL("CREATE TEMPORARY TABLE {} ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA").format(
            Identifier("vector_restore_stage"), listed, table
        )
    )
    staged = copy_rows(cursor, _STAGE, columns, form, chunks, where)
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
