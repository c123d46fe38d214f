"""What the target has already, asked in one query a kind."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.relocation import Name

_RELATIONS = """
SELECT n.nspname::text, c.relname::text
  FROM unnest(%(schemas)s::text[], %(names)s::text[]) asked(schema, name)
  JOIN pg_catalog.pg_namespace n ON n.nspname::text = asked.schema
  JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname::text = asked.name
 WHERE c.relkind = ANY(%(kinds)s)
"""

_TYPES = """
SELECT n.nspname::text, t.typname::text
  FROM unnest(%(schemas)s::text[], %(names)s::text[]) asked(schema, name)
  JOIN pg_catalog.pg_namespace n ON n.nspname::text = asked.schema
  JOIN pg_catalog.pg_type t ON t.typnamespace = n.oid AND t.typname::text = asked.name
  LEFT JOIN pg_catalog.pg_class c ON c.oid = t.typrelid
 WHERE t.typtype = %(kind)s AND (c.relkind IS NULL OR c.relkind = 'c')
"""

_COLLATIONS = """
SELECT n.nspname::text, c.collname::text
  FROM unnest(%(schemas)s::text[], %(names)s::text[]) asked(schema, name)
  JOIN pg_catalog.pg_namespace n ON n.nspname::text = asked.schema
  JOIN pg_catalog.pg_collation c ON c.collnamespace = n.oid AND c.collname::text = asked.name
  JOIN pg_catalog.pg_database d ON d.datname = current_database()
 WHERE c.collencoding IN (-1, d.encoding)
"""

_SCHEMAS = """
SELECT nspname::text FROM pg_catalog.pg_namespace WHERE nspname::text = ANY(%(names)s)
"""

_ROLES = """
SELECT rolname::text FROM pg_catalog.pg_roles WHERE rolname::text = ANY(%(names)s)
"""

# A table's row type counts among the names that another table's can't have.
_NAMES_TAKEN = """
SELECT n.nspname::text, taken.name::text
  FROM pg_catalog.pg_namespace n
 CROSS JOIN LATERAL (
       SELECT c.relname FROM pg_catalog.pg_class c WHERE c.relnamespace = n.oid
       UNION
       SELECT t.typname FROM pg_catalog.pg_type t WHERE t.typnamespace = n.oid
 ) taken(name)
 WHERE n.nspname::text = ANY(%(schemas)s)
"""

_STATISTICS_TAKEN = """
SELECT n.nspname::text, s.stxname::text
  FROM pg_catalog.pg_statistic_ext s JOIN pg_catalog.pg_namespace n ON n.oid = s.stxnamespace
 WHERE n.nspname::text = ANY(%(schemas)s)
"""

TYPE_KINDS = {"enum": "e", "domain": "d", "composite": "c", "range": "r"}
_TABLES, _SEQUENCE = ["r", "p", "f"], ["S"]


def tables_there(cursor: Cursor, names: Collection[Name]) -> set[Name]:
    return _names_there(cursor, _RELATIONS, names, kinds=_TABLES)


def sequences_there(cursor: Cursor, names: Collection[Name]) -> set[Name]:
    return _names_there(cursor, _RELATIONS, names, kinds=_SEQUENCE)


def types_there(cursor: Cursor, kind: str, names: Collection[Name]) -> set[Name]:
    """`kind` is a key of `TYPE_KINDS`."""
    return _names_there(cursor, _TYPES, names, kind=TYPE_KINDS[kind])


def collations_there(cursor: Cursor, names: Collection[Name]) -> set[Name]:
    return _names_there(cursor, _COLLATIONS, names)


def schemas_there(cursor: Cursor, names: Iterable[str]) -> set[str]:
    return {name for (name,) in _ask(cursor, _SCHEMAS, names=sorted(set(names)))}


def roles_there(cursor: Cursor, names: Iterable[str]) -> set[str]:
    return {name for (name,) in _ask(cursor, _ROLES, names=sorted(set(names)))}


def relation_names_taken(cursor: Cursor, schemas: Iterable[str]) -> set[Name]:
    return set(_ask(cursor, _NAMES_TAKEN, schemas=sorted(set(schemas))))


def statistics_names_taken(cursor: Cursor, schemas: Iterable[str]) -> set[Name]:
    return set(_ask(cursor, _STATISTICS_TAKEN, schemas=sorted(set(schemas))))


def _names_there(
    cursor: Cursor, query: str, names: Collection[Name], **parameters: Any
) -> set[Name]:
    if not names:
        return set()
    schemas, plain = zip(*names, strict=True)
    return set(_ask(cursor, query, schemas=list(schemas), names=list(plain), **parameters))


def _ask(cursor: Cursor, query: str, **parameters: Any) -> list[Any]:
    cursor.execute(query, parameters)
    return cursor.fetchall()
