"""Comments (pg_description) on tables and on what belongs to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.postgres.definitions.reading import (
    NOT_INTERNAL,
    VALID_INDEX,
    rows,
    statement,
)
from vector_backup_pipeline.engine.postgres.definitions.sequences import FoundSequence
from vector_backup_pipeline.engine.table_definition import Statement

# `target` is what COMMENT ON names; schema_name and name are the relation's or statistics object's.
_COMMENTS = sql.SQL("""
WITH c AS (
    SELECT c.oid, n.nspname, c.relname,
           pg_catalog.format('%%I.%%I', n.nspname, c.relname) AS full_name
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.oid = ANY(%(oids)s::oid[])
), described(relid, schema_name, name, target, classoid, objoid, objsubid) AS (
    SELECT c.oid, nspname, relname, 'TABLE ' || full_name,
           'pg_catalog.pg_class'::regclass, c.oid, 0 FROM c
    UNION ALL
    SELECT c.oid, nspname, relname,
           pg_catalog.format('COLUMN %%s.%%I', full_name, a.attname),
           'pg_catalog.pg_class'::regclass, c.oid, a.attnum
      FROM c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
     WHERE a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT c.oid, nspname, relname,
           pg_catalog.format('CONSTRAINT %%I ON %%s', k.conname, full_name),
           'pg_catalog.pg_constraint'::regclass, k.oid, 0
      FROM c JOIN pg_catalog.pg_constraint k ON k.conrelid = c.oid
     WHERE k.contype <> 't' AND {not_internal}
    UNION ALL
    SELECT c.oid, nspname, i.relname, pg_catalog.format('INDEX %%I.%%I', nspname, i.relname),
           'pg_catalog.pg_class'::regclass, i.oid, 0
      FROM c
      JOIN pg_catalog.pg_index x ON x.indrelid = c.oid
      JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
     WHERE {valid_index}
    UNION ALL
    SELECT c.oid, nspname, relname,
           pg_catalog.format('POLICY %%I ON %%s', p.polname, full_name),
           'pg_catalog.pg_policy'::regclass, p.oid, 0
      FROM c JOIN pg_catalog.pg_policy p ON p.polrelid = c.oid
    UNION ALL
    SELECT c.oid, n.nspname, s.stxname,
           pg_catalog.format('STATISTICS %%I.%%I', n.nspname, s.stxname),
           'pg_catalog.pg_statistic_ext'::regclass, s.oid, 0
      FROM c
      JOIN pg_catalog.pg_statistic_ext s ON s.stxrelid = c.oid
      JOIN pg_catalog.pg_namespace n ON n.oid = s.stxnamespace
    UNION ALL
    SELECT u.relid, n.nspname, s.relname,
           pg_catalog.format('SEQUENCE %%I.%%I', n.nspname, s.relname),
           'pg_catalog.pg_class'::regclass, s.oid, 0
      FROM unnest(%(users)s::oid[], %(sequences)s::oid[]) u(relid, oid)
      JOIN pg_catalog.pg_class s ON s.oid = u.oid
      JOIN pg_catalog.pg_namespace n ON n.oid = s.relnamespace
)
SELECT relid AS oid, 'comment' AS kind, schema_name, name,
       pg_catalog.format('COMMENT ON %%s IS %%L', target, d.description) AS sql
  FROM described JOIN pg_catalog.pg_description d USING (classoid, objoid, objsubid)
 ORDER BY relid, target
""").format(not_internal=NOT_INTERNAL, valid_index=VALID_INDEX)


def read_comments(
    cursor: Cursor, oids: Sequence[int], sequences: Sequence[FoundSequence]
) -> Iterator[tuple[int, Statement]]:
    """By the table's OID; those on sequences by the table that uses them."""
    users, used = (
        [sequence.table for sequence in sequences],
        [sequence.oid for sequence in sequences],
    )
    for row in rows(cursor, _COMMENTS, oids=list(oids), users=users, sequences=used):
        yield row["oid"], statement(row)
