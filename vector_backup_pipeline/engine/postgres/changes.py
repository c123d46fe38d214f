"""What an incremental backup must know of the server besides the changed rows."""

import contextlib
from collections.abc import Sequence

import psycopg2
from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL

from vector_backup_pipeline.engine.errors import BackupError
from vector_backup_pipeline.engine.postgres.connection import ConnectionSettings, connect
from vector_backup_pipeline.engine.postgres.definitions.reading import contained_types
from vector_backup_pipeline.engine.postgres.ranges import has_changed_since
from vector_backup_pipeline.engine.postgres.session import (
    allow_writes,
    fetch_rows,
    fetch_value,
    set_local,
)

_COLUMN_STATE = SQL("""
    WITH RECURSIVE {contained_types},
    types AS (SELECT * FROM pg_type WHERE oid IN (SELECT oid FROM contained))
    SELECT EXISTS (
        SELECT FROM pg_attribute
         WHERE (attrelid = ANY(%(oids)s::oid[]) OR attrelid IN (SELECT typrelid FROM types))
           AND attnum > 0 AND {has_changed}
         UNION ALL
        SELECT FROM pg_enum WHERE enumtypid IN (SELECT oid FROM types) AND {has_changed}),
    EXISTS (
        SELECT FROM types WHERE typnamespace = 'pg_catalog'::regnamespace
           AND (typname LIKE 'reg%%' OR typname = 'aclitem'))
""")


def read_column_state(cursor: Cursor, oids: Sequence[int], xmin: int) -> tuple[bool, bool]:
    """Two facts about the columns of these relations.

    The first: whether a column of a relation or of a composite type in it, or a label of an enum in
    it, was added, dropped or altered since the snapshot with that xmin. A column that was dropped
    and added again has another value in each row, although no row was written. A label that was
    renamed and renamed back may be in a backup under the name it had in between.

    The second: whether a column has a type, such as regclass, whose text is the name of another
    object, which may be renamed; also inside other types.
    """
    query = _COLUMN_STATE.format(
        contained_types=contained_types(cursor), has_changed=has_changed_since(xmin)
    )
    ((have_changed, show_names),) = fetch_rows(cursor, query, {"oids": list(oids)})
    return have_changed, show_names


def wal_position(cursor: Cursor) -> str:
    """The end of the WAL that was written so far. Not on a standby."""
    return str(fetch_value(cursor, "SELECT pg_current_wal_insert_lsn()"))


def is_durable(cursor: Cursor, position: str, settings: ConnectionSettings) -> bool:
    """Whether the WAL up to `position` is on the server's disk, after flushing it if needed.

    A snapshot also sees commits that are not on disk yet (synchronous_commit = off). A crash loses
    them, and their transaction IDs are used again.
    """
    query = "SELECT pg_current_wal_flush_lsn() >= %s::pg_lsn"
    if not fetch_value(cursor, query, [position]):
        with contextlib.suppress(psycopg2.Error, BackupError):
            _flush_wal(settings)
    return bool(fetch_value(cursor, query, [position]))


def _flush_wal(settings: ConnectionSettings) -> None:
    """Commit a message in the WAL, which has no reader: a commit flushes all WAL before it."""
    with contextlib.closing(connect(settings)) as connection, connection.cursor() as cursor:
        allow_writes(cursor)
        set_local(cursor, {"synchronous_commit": "local"})
        cursor.execute("SELECT pg_logical_emit_message(true, 'vector_backup_pipeline', '')")
        connection.commit()
