"""Schemas, extensions, collations and types: each with the statements that make it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.postgres.definitions import type_statements as making
from vector_backup_pipeline.engine.postgres.definitions.dependencies import Graph, Object
from vector_backup_pipeline.engine.postgres.definitions.reading import (
    POSTGRES_14,
    POSTGRES_15,
    POSTGRES_16,
    POSTGRES_17,
    Row,
    rows,
    since,
)
from vector_backup_pipeline.engine.table_definition import AnyDependency, ExternalObject

_SCHEMAS = sql.SQL("""
SELECT n.oid, n.nspname AS name FROM pg_catalog.pg_namespace n WHERE n.oid = ANY(%(oids)s::oid[])
""")

_EXTENSIONS = sql.SQL("""
SELECT e.oid, e.extname AS name, e.extversion AS version, n.nspname AS schema_name
  FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
 WHERE e.oid = ANY(%(oids)s::oid[])
""")

# The locale moved: collcollate, then colliculocale (15), then colllocale for all providers (17).
_COLLATIONS = sql.SQL("""
SELECT c.oid, n.nspname AS schema_name, c.collname AS name, c.collprovider AS provider,
       c.collcollate::text AS lc_collate, c.collctype::text AS lc_ctype,
       c.collisdeterministic AS deterministic, {locale}::text AS locale, {rules}::text AS rules
  FROM pg_catalog.pg_collation c JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace
 WHERE c.oid = ANY(%(oids)s::oid[])
""")

_ENUMS = sql.SQL("""
SELECT t.oid, n.nspname AS schema_name, t.typname AS name,
       pg_catalog.obj_description(t.oid, 'pg_type') AS comment,
       ARRAY(SELECT e.enumlabel::text FROM pg_catalog.pg_enum e
              WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder) AS labels
  FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
 WHERE t.oid = ANY(%(oids)s::oid[]) AND t.typtype = 'e'
""")

_DOMAINS = sql.SQL("""
SELECT t.oid, n.nspname AS schema_name, t.typname AS name,
       pg_catalog.obj_description(t.oid, 'pg_type') AS comment,
       pg_catalog.format_type(t.typbasetype, t.typtypmod) AS base, t.typnotnull AS not_null,
       pg_catalog.pg_get_expr(t.typdefaultbin, 0) AS default,
       CASE WHEN t.typcollation <> b.typcollation AND t.typcollation <> 0 THEN
            pg_catalog.format('%%I.%%I', ln.nspname, l.collname) END AS collation
  FROM pg_catalog.pg_type t
  JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
  JOIN pg_catalog.pg_type b ON b.oid = t.typbasetype
  LEFT JOIN pg_catalog.pg_collation l ON l.oid = t.typcollation
  LEFT JOIN pg_catalog.pg_namespace ln ON ln.oid = l.collnamespace
 WHERE t.oid = ANY(%(oids)s::oid[]) AND t.typtype = 'd'
""")

# Not null is a constraint of its own from PostgreSQL 17 on; typnotnull says it everywhere.
_DOMAIN_CONSTRAINTS = sql.SQL("""
SELECT k.contypid AS oid, k.conname AS name, k.contype, k.convalidated AS validated,
       pg_catalog.pg_get_constraintdef(k.oid) AS definition,
       pg_catalog.obj_description(k.oid, 'pg_constraint') AS comment
  FROM pg_catalog.pg_constraint k
 WHERE k.contypid = ANY(%(oids)s::oid[]) AND k.contype IN ('c', 'n')
 ORDER BY k.contypid, k.conname
""")

_COMPOSITES = sql.SQL("""
SELECT t.oid, n.nspname AS schema_name, t.typname AS name,
       pg_catalog.obj_description(t.oid, 'pg_type') AS comment
  FROM pg_catalog.pg_type t
  JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
  JOIN pg_catalog.pg_class c ON c.oid = t.typrelid AND c.relkind = 'c'
 WHERE t.oid = ANY(%(oids)s::oid[])
""")

_ATTRIBUTES = sql.SQL("""
SELECT c.reltype AS oid, a.attname AS name,
       pg_catalog.format_type(a.atttypid, a.atttypmod) AS type,
       CASE WHEN a.attcollation <> t.typcollation AND a.attcollation <> 0 THEN
            pg_catalog.format('%%I.%%I', ln.nspname, l.collname) END AS collation,
       pg_catalog.col_description(c.oid, a.attnum) AS comment
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
  LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation
  LEFT JOIN pg_catalog.pg_namespace ln ON ln.oid = l.collnamespace
 WHERE c.reltype = ANY(%(oids)s::oid[]) AND c.relkind = 'c'
 ORDER BY c.oid, a.attnum
""")

_RANGES = sql.SQL("""
SELECT t.oid, n.nspname AS schema_name, t.typname AS name,
       pg_catalog.obj_description(t.oid, 'pg_type') AS comment,
       pg_catalog.format_type(r.rngsubtype, NULL) AS subtype,
       {multirange} AS multirange_schema, {multirange_name} AS multirange_name,
       CASE WHEN NOT o.opcdefault THEN
            pg_catalog.format('%%I.%%I', op.nspname, o.opcname) END AS operator_class,
       CASE WHEN r.rngcollation <> s.typcollation AND r.rngcollation <> 0 THEN
            pg_catalog.format('%%I.%%I', ln.nspname, l.collname) END AS collation,
       NULLIF(r.rngsubdiff, 0)::regproc::text AS difference, r.rngcanonical <> 0 AS canonical
  FROM pg_catalog.pg_range r
  JOIN pg_catalog.pg_type t ON t.oid = r.rngtypid
  JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
  JOIN pg_catalog.pg_type s ON s.oid = r.rngsubtype
  JOIN pg_catalog.pg_opclass o ON o.oid = r.rngsubopc
  JOIN pg_catalog.pg_namespace op ON op.oid = o.opcnamespace
  LEFT JOIN pg_catalog.pg_collation l ON l.oid = r.rngcollation
  LEFT JOIN pg_catalog.pg_namespace ln ON ln.oid = l.collnamespace
  {multirange_join}
 WHERE t.oid = ANY(%(oids)s::oid[])
""")

_MULTIRANGE_JOIN = """
  LEFT JOIN pg_catalog.pg_type m ON m.oid = r.rngmultitypid
  LEFT JOIN pg_catalog.pg_namespace mn ON mn.oid = m.typnamespace
"""

# Those that come along with another type: arrays and multiranges.
_ACCOMPANYING = sql.SQL("""
SELECT t.oid FROM pg_catalog.pg_type t
 WHERE t.oid = ANY(%(oids)s::oid[])
   AND ((t.typcategory = 'A' AND t.typelem <> 0) OR t.typtype = 'm')
""")

_EXTERNAL = """
SELECT u.class::text AS class, u.oid, a.type AS kind, a.object_names AS names,
       a.object_args AS arguments,
       pg_catalog.pg_describe_object(u.class, u.oid, 0) AS description
  FROM unnest(%(classes)s::regclass[], %(objects)s::oid[]) u(class, oid)
 CROSS JOIN LATERAL pg_catalog.pg_identify_object_as_address(u.class, u.oid, 0) a
"""

# In between on the walk, made by what stands at their ends.
_SILENT = frozenset({"pg_attrdef", "pg_class", "pg_constraint", "pg_policy", "pg_statistic_ext"})

Found = dict[Object, AnyDependency]


@dataclass(frozen=True)
class Prerequisites:
    """The objects that a restore recreates, and those that it can only name."""

    recreated: Found
    external: dict[Object, ExternalObject]


def read_prerequisites(cursor: Cursor, graph: Graph, order: list[Object]) -> Prerequisites:
    own = [thing for thing in order if thing not in graph.members]
    found: Found = {}
    for read in (_schemas, _extensions, _collations, _enums, _domains, _composites, _ranges):
        found |= read(cursor, own)
    silent = {("pg_type", row["oid"]) for row in _ask(cursor, _ACCOMPANYING, own, "pg_type")}
    left = [
        thing
        for thing in own
        if thing not in found and thing not in silent and thing[0] not in _SILENT
    ]
    return Prerequisites(found, _external(cursor, left))


def _external(cursor: Cursor, things: list[Object]) -> dict[Object, ExternalObject]:
    if not things:
        return {}
    found = rows(
        cursor,
        _EXTERNAL,
        classes=["pg_catalog." + thing[0] for thing in things],
        objects=[thing[1] for thing in things],
    )
    return {(row.pop("class"), row.pop("oid")): ExternalObject(**row) for row in found}


def _ask(cursor: Cursor, query: sql.Composable, order: list[Object], catalog: str) -> list[Row]:
    oids = [oid for name, oid in order if name == catalog]
    return rows(cursor, query, oids=oids) if oids else []


def _made(
    cursor: Cursor, catalog: str, found: list[Row], make: Callable[[Cursor, Row], AnyDependency]
) -> Found:
    return {(catalog, row["oid"]): make(cursor, row) for row in found}


def _schemas(cursor: Cursor, order: list[Object]) -> Found:
    found = _ask(cursor, _SCHEMAS, order, "pg_namespace")
    return _made(cursor, "pg_namespace", found, making.schema)


def _extensions(cursor: Cursor, order: list[Object]) -> Found:
    found = _ask(cursor, _EXTENSIONS, order, "pg_extension")
    return _made(cursor, "pg_extension", found, making.extension)


def _collations(cursor: Cursor, order: list[Object]) -> Found:
    icu_locale = since(
        cursor,
        POSTGRES_15,
        "c.colliculocale",
        "CASE c.collprovider WHEN 'i' THEN c.collcollate END",
    )
    query = _COLLATIONS.format(
        locale=since(cursor, POSTGRES_17, "c.colllocale", icu_locale.string),
        rules=since(cursor, POSTGRES_16, "c.collicurules", "NULL"),
    )
    return _made(
        cursor, "pg_collation", _ask(cursor, query, order, "pg_collation"), making.collation
    )


def _enums(cursor: Cursor, order: list[Object]) -> Found:
    return _made(cursor, "pg_type", _ask(cursor, _ENUMS, order, "pg_type"), making.enum)


def _domains(cursor: Cursor, order: list[Object]) -> Found:
    found = _ask(cursor, _DOMAINS, order, "pg_type")
    constraints = _ask(cursor, _DOMAIN_CONSTRAINTS, order, "pg_type") if found else []
    for row in found:
        row["constraints"] = [each for each in constraints if each["oid"] == row["oid"]]
    return _made(cursor, "pg_type", found, making.domain)


def _composites(cursor: Cursor, order: list[Object]) -> Found:
    found = _ask(cursor, _COMPOSITES, order, "pg_type")
    attributes = _ask(cursor, _ATTRIBUTES, order, "pg_type") if found else []
    for row in found:
        row["attributes"] = [each for each in attributes if each["oid"] == row["oid"]]
    return _made(cursor, "pg_type", found, making.composite)


def _ranges(cursor: Cursor, order: list[Object]) -> Found:
    query = _RANGES.format(
        multirange=since(cursor, POSTGRES_14, "mn.nspname", "NULL"),
        multirange_name=since(cursor, POSTGRES_14, "m.typname", "NULL"),
        multirange_join=since(cursor, POSTGRES_14, _MULTIRANGE_JOIN, ""),
    )
    found = [row for row in _ask(cursor, query, order, "pg_type") if not row["canonical"]]
    return _made(cursor, "pg_type", found, making.range_type)
