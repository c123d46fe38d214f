"""Existing objects of the target, and its extensions: installed or available, their members."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg2
from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Identifier

from vector_backup_pipeline.engine.errors import DatabaseRefused, PermissionDenied
from vector_backup_pipeline.engine.postgres.session import fetch_rows
from vector_backup_pipeline.engine.sql_tokens import Name
from vector_backup_pipeline.engine.table_definition import Dependency

_RELATIONS = """
SELECT n.nspname::text, c.relname::text
  FROM unnest(%(schemas)s::text[], %(names)s::text[]) u(schema, name)
  JOIN pg_catalog.pg_namespace n ON n.nspname::text = u.schema
  JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname::text = u.name
 WHERE c.relkind = ANY(%(kinds)s)
"""

# Not the row types of tables.
_TYPES = """
SELECT n.nspname::text, t.typname::text
  FROM unnest(%(schemas)s::text[], %(names)s::text[]) u(schema, name)
  JOIN pg_catalog.pg_namespace n ON n.nspname::text = u.schema
  JOIN pg_catalog.pg_type t ON t.typnamespace = n.oid AND t.typname::text = u.name
  LEFT JOIN pg_catalog.pg_class c ON c.oid = t.typrelid
 WHERE c.relkind IS NULL OR c.relkind = 'c'
"""

_SCHEMAS = """
SELECT nspname::text FROM pg_catalog.pg_namespace WHERE nspname::text = ANY(%(names)s)
"""

# A table's row type takes a name too.
_NAMES_TAKEN = """
SELECT n.nspname::text, taken.name::text
  FROM pg_catalog.pg_namespace n
 CROSS JOIN LATERAL (
       SELECT c.relname FROM pg_catalog.pg_class c WHERE c.relnamespace = n.oid
       UNION
       SELECT t.typname FROM pg_catalog.pg_type t WHERE t.typnamespace = n.oid
       UNION
       SELECT s.stxname FROM pg_catalog.pg_statistic_ext s WHERE s.stxnamespace = n.oid
 ) taken(name)
 WHERE n.nspname::text = ANY(%(schemas)s)
"""

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
SELECT CASE WHEN d.classid = 'pg_catalog.pg_type'::regclass THEN (
           SELECT t.typname::text FROM pg_catalog.pg_type t WHERE t.oid = d.objid)
       ELSE a.object_names[pg_catalog.cardinality(a.object_names)] END,
       d.classid = 'pg_catalog.pg_proc'::regclass
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
_INSTALL_EXTENSION = (
    "Install its package there (many are in postgresql-contrib), then restore again."
)


def existing_tables(cursor: Cursor, names: Collection[Name]) -> set[Name]:
    return _existing(cursor, _RELATIONS, names, kinds=["r", "p", "f"])


def existing_sequences(cursor: Cursor, names: Collection[Name]) -> set[Name]:
    return _existing(cursor, _RELATIONS, names, kinds=["S"])


def existing_types(cursor: Cursor, names: Collection[Name]) -> set[Name]:
    return _existing(cursor, _TYPES, names)


def existing_schemas(cursor: Cursor, names: Iterable[str]) -> set[str]:
    return {name for (name,) in fetch_rows(cursor, _SCHEMAS, {"names": sorted(set(names))})}


def names_taken(cursor: Cursor, schemas: Iterable[str]) -> set[Name]:
    """Of relations, types and statistics objects."""
    return set(fetch_rows(cursor, _NAMES_TAKEN, {"schemas": sorted(set(schemas))}))


def _existing(cursor: Cursor, query: str, names: Collection[Name], **parameters: Any) -> set[Name]:
    if not names:
        return set()
    schemas, plain = zip(*names, strict=True)
    return set(fetch_rows(cursor, query, {"schemas": [*schemas], "names": [*plain], **parameters}))


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
    names = [extension.name for extension in extensions]
    states = fetch_rows(cursor, _STATES, {"names": names})
    return {name: ExtensionState(*state) for name, *state in states}


def extension_members(cursor: Cursor, name: str) -> Iterator[tuple[str, bool]]:
    """The names of its members, operators among them, and whether each is a function."""
    yield from fetch_rows(cursor, _MEMBERS, {"name": name})


def check_available(name: str, state: ExtensionState) -> None:
    """Raises ExtensionUnavailable: the target has no such extension."""
    if state.installed is None and state.available is None:
        title, how = f"extension {name}", _INSTALL_EXTENSION
        if name == "vector":
            title, how = "pgvector", _INSTALL_PGVECTOR
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
