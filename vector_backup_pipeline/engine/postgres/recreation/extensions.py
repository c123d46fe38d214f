"""Extensions in the target: installed or available, and where their members are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import psycopg2
from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Identifier

from vector_backup_pipeline.engine.errors import DatabaseRefused, PermissionDenied
from vector_backup_pipeline.engine.table_definition import Dependency

_STATES = """
SELECT u.name, e.extversion, n.nspname::text, a.default_version
  FROM unnest(%(names)s::text[]) u(name)
  LEFT JOIN pg_catalog.pg_extension e ON e.extname::text = u.name
  LEFT JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
  LEFT JOIN pg_catalog.pg_available_extensions a ON a.name::text = u.name
"""

# Each member's name within the extension's schema. The address of an object is an array of its
# schema and name, with the access method first for an operator class or family.
_MEMBERS = """
SELECT d.classid = 'pg_catalog.pg_proc'::regclass,
       CASE WHEN d.classid = 'pg_catalog.pg_type'::regclass THEN (
           SELECT t.typname::text FROM pg_catalog.pg_type t WHERE t.oid = d.objid)
       ELSE a.object_names[pg_catalog.cardinality(a.object_names)] END
  FROM pg_catalog.pg_extension e
  JOIN pg_catalog.pg_depend d
    ON d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.refobjid = e.oid
   AND d.deptype = 'e'
 CROSS JOIN LATERAL pg_catalog.pg_identify_object(d.classid, d.objid, 0) o
 CROSS JOIN LATERAL pg_catalog.pg_identify_object_as_address(d.classid, d.objid, 0) a
  JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
 WHERE e.extname::text = %(name)s AND o.schema = pg_catalog.quote_ident(n.nspname)
"""

_INSTALL_PGVECTOR = (
    "Install it there (package postgresql-<version>-pgvector on Debian and Ubuntu, "
    "pgvector_<version> on Red Hat, or from github.com/pgvector/pgvector; managed services list it "
    "among their extensions), then restore again."
)


class ExtensionUnavailable(DatabaseRefused):
    """The target server does not offer an extension, or only a version that is too old."""


@dataclass(frozen=True)
class ExtensionState:
    """`installed` and `available` are versions, `schema` is where it is installed."""

    installed: str | None
    schema: str | None
    available: str | None


def extension_states(cursor: Cursor, extensions: Iterable[Dependency]) -> dict[str, ExtensionState]:
    """The states by the extensions' names."""
    cursor.execute(_STATES, {"names": [extension.name for extension in extensions]})
    return {name: ExtensionState(*state) for name, *state in cursor.fetchall()}


def extension_members(cursor: Cursor, name: str) -> Iterator[tuple[str, bool]]:
    """The names of its members, operators among them, and whether each is a function."""
    cursor.execute(_MEMBERS, {"name": name})
    for is_function, member in cursor.fetchall():
        yield member, is_function


def check_available(name: str, state: ExtensionState) -> None:
    """Raises ExtensionUnavailable: the target has no such extension."""
    if state.installed is None and state.available is None:
        title = "pgvector" if name == "vector" else f"extension {name}"
        how = (
            _INSTALL_PGVECTOR
            if name == "vector"
            else "Install its package there (many are in postgresql-contrib), then restore again."
        )
        raise ExtensionUnavailable(
            f"The target server has no {title}, which the backup's tables need. {how}"
        )


def create_extension(cursor: Cursor, name: str, schema: str) -> None:
    """In the version that this server has."""
    create = SQL("CREATE EXTENSION {} WITH SCHEMA {}")
    try:
        cursor.execute(create.format(Identifier(name), Identifier(schema)))
    except psycopg2.errors.InsufficientPrivilege as error:
        raise PermissionDenied(
            f"The tables need the extension {name}, which this role may not create "
            f"({error.diag.message_primary}). Let a superuser run CREATE EXTENSION {name} in the "
            "target database, then restore again."
        ) from error
