"""The staging schemas of a restore: new tables are loaded and verified there before they are moved
into place.

A live run holds an advisory lock on its schema's name, in a transaction that is open from before
the schema exists until it is gone. So a schema whose lock is free is a dead run's.
"""

import re

import psycopg2
from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Identifier

from vector_backup_pipeline.engine.postgres.session import fetch_rows, fetch_value, savepoint

# A run has one for each schema of the backup: vector_restore_<run id>, and the same with _2, _3.
_PREFIX = "vector_restore_"
_SCHEMAS = """
    SELECT nspname::text, left(nspname::text, 47) FROM pg_namespace
     WHERE nspname::text ~ '^vector_restore_[0-9a-f]{32}(_[0-9]+)?$'
     ORDER BY 1
"""


def staging_name(run_id: str) -> str:
    """The name of a run's first staging schema, whatever characters its id has."""
    digits = re.sub(r"[^0-9a-f]", "", run_id.lower())
    return _PREFIX + digits[:32].rjust(32, "0")


def create_staging(cursor: Cursor, staging: str) -> None:
    cursor.execute(SQL("CREATE SCHEMA {}").format(Identifier(staging)))


def hold_staging(cursor: Cursor, staging: str) -> None:
    """Take the advisory lock that shows that the run of this schema is alive, until the transaction
    ends."""
    cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (staging,))


def may_create_schema(cursor: Cursor) -> bool:
    query = "SELECT has_database_privilege(current_database(), 'CREATE')"
    return bool(fetch_value(cursor, query))


def drop_staging(cursor: Cursor, staging: str) -> list[str]:
    """Drop a run's schemas with everything in them; returns their names."""
    schemas = [name for name, of_run in fetch_rows(cursor, _SCHEMAS) if of_run == staging]
    for name in schemas:
        cursor.execute(SQL("DROP SCHEMA {} CASCADE").format(Identifier(name)))
    return schemas


def drop_dead_staging(cursor: Cursor) -> list[str]:
    """Drop the schemas of dead runs, as far as this role may; returns their names.

    The caller commits. Another role's schema, or one that is in use, is left for the next run.
    """
    dropped: list[str] = []
    for staging in sorted({of_run for _, of_run in fetch_rows(cursor, _SCHEMAS)}):
        query = "SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))"
        if not fetch_value(cursor, query, (staging,)):
            continue
        try:
            with savepoint(cursor):
                dropped += drop_staging(cursor, staging)
        except (psycopg2.errors.InsufficientPrivilege, psycopg2.errors.LockNotAvailable):
            continue
    return dropped
