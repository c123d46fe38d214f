"""pg_description: what people wrote about tables, columns, constraints and the rest."""

from __future__ import annotations

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.postgres.definitions.reading import (
    grouped,
    not_internal,
    rows,
)
from vector_backup_pipeline.engine.table_definition import Comment

_COMMENTS = sql.SQL("""
WITH described(relid, kind, name, schema_name, classoid, objoid, objsubid) AS (
    SELECT c.oid, 'TABLE', c.relname, NULL::name, 'pg_catalog.pg_class'::regclass, c.oid, 0
      FROM pg_catalog.pg_class c WHERE c.oid = ANY(%(oids)s::oid[])
    UNION ALL
    SELECT a.attrelid, 'COLUMN', a.attname, NULL, 'pg_catalog.pg_class'::regclass,
           a.attrelid, a.attnum
      FROM pg_catalog.pg_attribute a
     WHERE a.attrelid = ANY(%(oids)s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT k.conrelid, 'CONSTRAINT', k.conname, NULL, 'pg_catalog.pg_constraint'::regclass,
           k.oid, 0
      FROM pg_catalog.pg_constraint k
     WHERE k.conrelid = ANY(%(oids)s::oid[]) AND k.contype <> 't'
       AND {not_internal}
    UNION ALL
    SELECT x.indrelid, 'INDEX', i.relname, NULL, 'pg_catalog.pg_class'::regclass, i.oid, 0
      FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
     WHERE x.indrelid = ANY(%(oids)s::oid[])
       AND ((x.indislive AND x.indisvalid AND x.indisready) OR i.relkind = 'I')
    UNION ALL
    SELECT p.polrelid, 'POLICY', p.polname, NULL, 'pg_catalog.pg_policy'::regclass, p.oid, 0
      FROM pg_catalog.pg_policy p WHERE p.polrelid = ANY(%(oids)s::oid[])
    UNION ALL
    SELECT s.stxrelid, 'STATISTICS', s.stxname, n.nspname,
           'pg_catalog.pg_statistic_ext'::regclass, s.oid, 0
      FROM pg_catalog.pg_statistic_ext s
      JOIN pg_catalog.pg_namespace n ON n.oid = s.stxnamespace
     WHERE s.stxrelid = ANY(%(oids)s::oid[])
    UNION ALL
    SELECT u.relid, 'SEQUENCE', c.relname, n.nspname, 'pg_catalog.pg_class'::regclass, c.oid, 0
      FROM unnest(%(users)s::oid[], %(sequences)s::oid[]) u(relid, oid)
      JOIN pg_catalog.pg_class c ON c.oid = u.oid
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
)
SELECT o.relid, o.kind, o.name, o.schema_name, d.description
  FROM described o
  JOIN pg_catalog.pg_description d USING (classoid, objoid, objsubid)
 ORDER BY o.relid, o.kind, o.name
""").format(not_internal=not_internal("k"))


def read_comments(
    cursor: Cursor, oids: list[int], sequences: dict[int, list[int]]
) -> dict[int, list[Comment]]:
    pairs = [(relid, oid) for relid, used in sequences.items() for oid in used]
    found = rows(
        cursor,
        _COMMENTS,
        oids=oids,
        users=[relid for relid, _ in pairs],
        sequences=[oid for _, oid in pairs],
    )
    return grouped(
        found,
        lambda row: int(row["relid"]),
        lambda row: Comment(
            on=row["kind"],
            name=row["name"],
            schema_name=row["schema_name"],
            text=row["description"],
        ),
    )
