"""pg_attribute and pg_attrdef: the columns in their order, dropped ones left out."""

from __future__ import annotations

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.postgres.definitions.reading import (
    POSTGRES_14,
    Row,
    grouped,
    options,
    rows,
    since,
)
from vector_backup_pipeline.engine.table_definition import Column, ColumnType

# attstattarget is -1, and NULL from PostgreSQL 17 on, for "the default". The constant 'p' and
# its like are documented at pg_attribute.attstorage.
_COLUMNS = sql.SQL("""
SELECT a.attrelid, a.attname AS name, a.attnotnull AS not_null, a.attidentity, a.attgenerated,
       pg_catalog.pg_get_expr(d.adbin, d.adrelid) AS expression,
       CASE WHEN a.attcollation <> t.typcollation AND a.attcollation <> 0 THEN
            pg_catalog.format('%%I.%%I', ln.nspname, l.collname) END AS collation,
       CASE WHEN a.attstorage <> t.typstorage THEN a.attstorage END AS attstorage,
       {compression} AS attcompression,
       NULLIF(a.attstattarget, -1) AS statistics_target, a.attoptions,
       a.attislocal AS local, a.attinhcount > 0 AS inherited, a.attacl::text AS acl,
       pg_catalog.format_type(a.atttypid, a.atttypmod) AS type_text, a.atttypid,
       tn.nspname AS type_schema, t.typname, t.typcategory, t.typtype, a.atttypmod
  FROM pg_catalog.pg_attribute a
  JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
  JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace
  LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation
  LEFT JOIN pg_catalog.pg_namespace ln ON ln.oid = l.collnamespace
  LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
 WHERE a.attrelid = ANY(%(oids)s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attrelid, a.attnum
""")

# What a type holds inside, down to the last element. array_send writes the element type's OID,
# record_send every attribute's; reg* types are sent as OIDs. Built-in OIDs are the same anywhere.
_NOT_PORTABLE = sql.SQL("""
WITH RECURSIVE held(root, oid) AS (
    SELECT DISTINCT a.atttypid, a.atttypid FROM pg_catalog.pg_attribute a
     WHERE a.attrelid = ANY(%(oids)s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
    UNION
    SELECT held.root, inside.oid
      FROM held
      JOIN pg_catalog.pg_type t ON t.oid = held.oid
      LEFT JOIN pg_catalog.pg_range r ON {range_of}
     CROSS JOIN LATERAL (VALUES (t.typbasetype), (t.typelem), (r.rngsubtype)) inside(oid)
     WHERE inside.oid <> 0
)
SELECT DISTINCT held.root
  FROM held
  JOIN pg_catalog.pg_type t ON t.oid = held.oid
  JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
 WHERE t.typtype IN ('c', 'p')
    OR (n.nspname = 'pg_catalog' AND t.typname ~ '^reg')
    OR (t.typcategory = 'A' AND t.typelem >= 16384)
    OR t.typsend = 0 OR t.typreceive = 0
""")

_STORAGE = {"p": "PLAIN", "e": "EXTERNAL", "m": "MAIN", "x": "EXTENDED"}
_COMPRESSION = {"p": "pglz", "l": "lz4"}
_IDENTITY = {"a": "always", "d": "by default"}
_GENERATED = {"s": "stored", "v": "virtual"}


def read_columns(cursor: Cursor, oids: list[int]) -> dict[int, list[Column]]:
    compression = since(cursor, POSTGRES_14, "a.attcompression", "''")
    range_of = since(
        cursor, POSTGRES_14, "t.oid IN (r.rngtypid, r.rngmultitypid)", "t.oid = r.rngtypid"
    )
    holding_oids = {
        row["root"] for row in rows(cursor, _NOT_PORTABLE.format(range_of=range_of), oids=oids)
    }
    found = rows(cursor, _COLUMNS.format(compression=compression), oids=oids)
    return grouped(
        found,
        lambda row: int(row["attrelid"]),
        lambda row: _column(row, row["atttypid"] not in holding_oids),
    )


def _column(row: Row, binary_portable: bool) -> Column:
    generated = _GENERATED.get(row["attgenerated"])
    return Column.model_validate(
        {
            "name": row["name"],
            "type": _type(row, binary_portable),
            "not_null": row["not_null"],
            "default": None if generated else row["expression"],
            "generated": generated,
            "generated_as": row["expression"] if generated else None,
            "identity": _IDENTITY.get(row["attidentity"]),
            "collation": row["collation"],
            "storage": _STORAGE.get(row["attstorage"]),
            "compression": _COMPRESSION.get(row["attcompression"]),
            "statistics_target": row["statistics_target"],
            "options": options(row["attoptions"]),
            "local": row["local"],
            "inherited": row["inherited"],
        }
    )


def _type(row: Row, binary_portable: bool) -> ColumnType:
    return ColumnType(
        text=row["type_text"],
        schema_name=row["type_schema"],
        name=row["typname"],
        category=row["typcategory"],
        kind=row["typtype"],
        modifier=row["atttypmod"],
        binary_portable=binary_portable,
    )
