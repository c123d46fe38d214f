"""The scratch schema of a restore: new tables are loaded and proved there, out of everyone's sight.

A live run holds an advisory lock that goes by its schema's name, in a transaction that is open from
before the schema exists until it is gone. So a schema whose lock is free is a dead run's.
"""

from __future__ import annotations

import re

import psycopg2
from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Identifier

_PREFIX = "vector_restore_"
# A run has one for each schema of the backup: vector_restore_<run id>, and the same with _2, _3.
_NAME = re.compile(r"(vector_restore_[0-9a-f]{32})(_[0-9]+)?")
_HOLD = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"
_TRY = "SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))"


def scratch_name(run_id: str) -> str:
    """A schema's name from the run's id, whatever characters that holds."""
    digits = re.sub(r"[^0-9a-f]", "", run_id.lower())
    return _PREFIX + digits[:32].rjust(32, "0")


def create_scratch(cursor: Cursor, scratch: str) -> None:
    cursor.execute(SQL("CREATE SCHEMA {}").format(Identifier(scratch)))


def hold_scratch(cursor: Cursor, scratch: str) -> None:
    """Take the lock that tells others that this schema's run lives, until the transaction ends."""
    cursor.execute(_HOLD, (scratch,))


def may_create_schema(cursor: Cursor) -> bool:
    cursor.execute("SELECT has_database_privilege(current_database(), 'CREATE')")
    ((may,),) = cursor.fetchall()
    return bool(may)


def drop_scratch(cursor: Cursor, scratch: str) -> list[str]:
    """Drop a run's schemas with all that is in them; returns their names."""
    schemas = [name for name in _scratch_schemas(cursor) if _base(name) == scratch]
    for name in schemas:
        cursor.execute(SQL("DROP SCHEMA {} CASCADE").format(Identifier(name)))
    return schemas


def drop_dead_scratch(cursor: Cursor) -> list[str]:
    """Drop the schemas of runs that died, as far as this role may; returns their names.

    The caller commits.
    """
    dead: list[str] = []
    for base in sorted({_base(name) for name in _scratch_schemas(cursor)}):
        cursor.execute(_TRY, (base,))
        if cursor.fetchone() == (True,):
            dead += _drop_if_allowed(cursor, base)
    return dead


def _drop_if_allowed(cursor: Cursor, scratch: str) -> list[str]:
    """Another role's schema, or one that is in use, is left for its own next run."""
    cursor.execute("SAVEPOINT dead_scratch")
    try:
        dropped = drop_scratch(cursor, scratch)
    except (psycopg2.errors.InsufficientPrivilege, psycopg2.errors.LockNotAvailable):
        cursor.execute("ROLLBACK TO SAVEPOINT dead_scratch")
        dropped = []
    cursor.execute("RELEASE SAVEPOINT dead_scratch")
    return dropped


def _scratch_schemas(cursor: Cursor) -> list[str]:
    cursor.execute(
        "SELECT nspname::text FROM pg_namespace WHERE left(nspname::text, %s) = %s ORDER BY 1",
        (len(_PREFIX), _PREFIX),
    )
    return [name for (name,) in cursor.fetchall() if _NAME.fullmatch(name)]


def _base(name: str) -> str:
    match = _NAME.fullmatch(name)
    return match.group(1) if match else name
