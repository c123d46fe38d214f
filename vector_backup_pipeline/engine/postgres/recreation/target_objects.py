"""Existing objects of the target, one query for each kind of object."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.sql_tokens import Name

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


def existing_tables(cursor: Cursor, names: Collection[Name]) -> set[Name]:
    return _existing(cursor, _RELATIONS, names, kinds=["r", "p", "f"])


def existing_sequences(cursor: Cursor, names: Collection[Name]) -> set[Name]:
    return _existing(cursor, _RELATIONS, names, kinds=["S"])


def existing_types(cursor: Cursor, names: Collection[Name]) -> set[Name]:
    return _existing(cursor, _TYPES, names)


def existing_schemas(cursor: Cursor, names: Iterable[str]) -> set[str]:
    return {name for (name,) in _ask(cursor, _SCHEMAS, names=sorted(set(names)))}


def names_taken(cursor: Cursor, schemas: Iterable[str]) -> set[Name]:
    """Of relations, types and statistics objects."""
    return set(_ask(cursor, _NAMES_TAKEN, schemas=sorted(set(schemas))))


def _existing(cursor: Cursor, query: str, names: Collection[Name], **parameters: Any) -> set[Name]:
    if not names:
        return set()
    schemas, plain = zip(*names, strict=True)
    return set(_ask(cursor, query, schemas=list(schemas), names=list(plain), **parameters))


def _ask(cursor: Cursor, query: str, **parameters: Any) -> list[Any]:
    cursor.execute(query, parameters)
    return cursor.fetchall()
