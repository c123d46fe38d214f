"""The scratch schema of a restore: new tables are loaded and proved there, out of everyone's sight.

A live run holds an advisory lock that goes by its schema's name, in a transaction that is open from
before the schema exists until it is gone. So a schema whose lock is free is a dead run's.

An extension is never in it, as its name is the whole database's and others may use it at once. The
schema's comment notes which ones its run made; they go with the schema unless somebody uses them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import psycopg2
from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Identifier, Literal

_PREFIX = "vector_restore_"
# A run has one for each schema of the backup: vector_restore_<run id>, and the same with _2, _3.
_NAME = re.compile(r"(vector_restore_[0-9a-f]{32})(_[0-9]+)?")
_HOLD = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"
_TRY = "SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))"
_SHARE = "SELECT pg_advisory_xact_lock_shared(hashtextextended(%s, 0))"

_NOTE = "extensions_made"
# Only those very ones: an extension of that name may have been made again, or by another role.
_NOTED = """
SELECT noted.name
  FROM unnest(%(names)s::text[], %(oids)s::oid[]) WITH ORDINALITY noted(name, oid, place)
  JOIN pg_catalog.pg_extension e ON e.oid = noted.oid AND e.extname::text = noted.name
  JOIN pg_catalog.pg_namespace n ON n.nspowner = e.extowner AND n.nspname::text = %(scratch)s
 ORDER BY noted.place DESC
"""


def scratch_name(run_id: str) -> str:
    """A schema's name from the run's id, whatever characters that holds."""
    digits = re.sub(r"[^0-9a-f]", "", run_id.lower())
    return _PREFIX + digits[:32].rjust(32, "0")


def hold_scratch(cursor: Cursor, scratch: str) -> None:
    """Take the lock that tells others that this schema's run lives, until the transaction ends."""
    cursor.execute(_HOLD, (scratch,))


def may_create_schema(cursor: Cursor) -> bool:
    cursor.execute("SELECT has_database_privilege(current_database(), 'CREATE')")
    ((may,),) = cursor.fetchall()
    return bool(may)


def hold_extensions(cursor: Cursor, names: Iterable[str]) -> None:
    """Keep the end of other runs from dropping these until the transaction ends.

    DROP EXTENSION would not see what this transaction makes with them.
    """
    for name in sorted(set(names)):
        cursor.execute(_SHARE, (_extension_lock(name),))


def note_extensions(cursor: Cursor, scratch: str, names: Sequence[str]) -> None:
    """Remember with the run's schema which extensions it made, in the same transaction."""
    if not names:
        return
    cursor.execute(
        "SELECT extname::text, oid FROM pg_catalog.pg_extension WHERE extname::text = ANY(%s)",
        (list(names),),
    )
    oids = dict(cursor.fetchall())
    note = json.dumps({_NOTE: [[name, oids[name]] for name in names]})
    comment = SQL("COMMENT ON SCHEMA {} IS {}")
    cursor.execute(comment.format(Identifier(scratch), Literal(note)))


def drop_scratch(cursor: Cursor, scratch: str) -> list[str]:
    """Drop a run's schemas with all that is in them; returns their names.

    And the extensions that it made, where nothing depends on them and the role may.
    """
    dropped = _drop_schemas(cursor, scratch)
    _drop_unused_extensions(cursor, dropped.extensions)
    return dropped.schemas


def drop_dead_scratch(cursor: Cursor) -> list[str]:
    """Drop the schemas of runs that died, and the extensions that they made, as far as this role
    may; returns the schemas' names.

    The caller commits.
    """
    dead: list[_Dropped] = []
    for base in sorted({_base(name) for name in _scratch_schemas(cursor)}):
        cursor.execute(_TRY, (base,))
        if cursor.fetchone() == (True,):
            dead.append(_drop_schemas_if_allowed(cursor, base))
    # When all schemas are gone: one dead run may have used what another one made.
    _drop_unused_extensions(cursor, [name for each in dead for name in each.extensions])
    return [name for each in dead for name in each.schemas]


class _Dropped(NamedTuple):
    """A run's schemas, which are dropped, and the extensions that it made, which are not yet."""

    schemas: list[str]
    extensions: list[str]


def _drop_schemas(cursor: Cursor, scratch: str) -> _Dropped:
    schemas = [name for name in _scratch_schemas(cursor) if _base(name) == scratch]
    extensions = _noted_extensions(cursor, scratch)
    for name in schemas:
        cursor.execute(SQL("DROP SCHEMA {} CASCADE").format(Identifier(name)))
    return _Dropped(schemas, extensions)


def _drop_schemas_if_allowed(cursor: Cursor, scratch: str) -> _Dropped:
    """Another role's schema, or one that somebody looks into, is left for its own next run."""
    cursor.execute("SAVEPOINT dead_scratch")
    try:
        dropped = _drop_schemas(cursor, scratch)
    except (psycopg2.errors.InsufficientPrivilege, psycopg2.errors.LockNotAvailable):
        cursor.execute("ROLLBACK TO SAVEPOINT dead_scratch")
        dropped = _Dropped([], [])
    cursor.execute("RELEASE SAVEPOINT dead_scratch")
    return dropped


def _scratch_schemas(cursor: Cursor) -> list[str]:
    cursor.execute(
        "SELECT nspname::text FROM pg_namespace WHERE left(nspname::text, %s) = %s ORDER BY 1",
        (len(_PREFIX), _PREFIX),
    )
    return [name for (name,) in cursor.fetchall() if _NAME.fullmatch(name)]


def _noted_extensions(cursor: Cursor, scratch: str) -> list[str]:
    """Those of the note that are still there, the last made first."""
    cursor.execute(
        "SELECT pg_catalog.obj_description(oid, 'pg_namespace') FROM pg_catalog.pg_namespace"
        " WHERE nspname::text = %s",
        (scratch,),
    )
    noted = [each for (comment,) in cursor.fetchall() for each in _read_note(comment or "")]
    names, oids = [name for name, _ in noted], [oid for _, oid in noted]
    cursor.execute(_NOTED, {"names": names, "oids": oids, "scratch": scratch})
    return [name for (name,) in cursor.fetchall()]


def _read_note(comment: str) -> list[tuple[str, int]]:
    """Nothing, if the comment is somebody else's."""
    try:
        return [(str(name), int(oid)) for name, oid in json.loads(comment)[_NOTE]]
    except (ValueError, KeyError, TypeError):
        return []


def _drop_unused_extensions(cursor: Cursor, names: Iterable[str]) -> None:
    for name in dict.fromkeys(names):
        _drop_extension_if_unused(cursor, name)


def _drop_extension_if_unused(cursor: Cursor, name: str) -> None:
    """What another run is using at this moment, or another role owns, stays too."""
    cursor.execute(_TRY, (_extension_lock(name),))
    if cursor.fetchone() != (True,):
        return
    cursor.execute("SAVEPOINT scratch_extension")
    try:
        drop = SQL("DROP EXTENSION IF EXISTS {} RESTRICT")
        cursor.execute(drop.format(Identifier(name)))
    except (
        psycopg2.errors.DependentObjectsStillExist,
        psycopg2.errors.InsufficientPrivilege,
    ):
        cursor.execute("ROLLBACK TO SAVEPOINT scratch_extension")
    cursor.execute("RELEASE SAVEPOINT scratch_extension")


def _extension_lock(name: str) -> str:
    return f"{_PREFIX}extension {name}"


def _base(name: str) -> str:
    match = _NAME.fullmatch(name)
    return match.group(1) if match else name
