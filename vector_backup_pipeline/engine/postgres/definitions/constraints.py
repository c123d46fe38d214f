"""What is created over the rows: constraints, indexes, extended statistics, policies, comments."""

from collections.abc import Iterator, Sequence

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.postgres.definitions import reading
from vector_backup_pipeline.engine.postgres.definitions.sequences import UsedSequence
from vector_backup_pipeline.engine.table_definition import (
    ForeignKey,
    Index,
    Omission,
    OmissionKind,
    QualifiedName,
    Statement,
)

# Keys are altered ONLY: each partition has its own, attached later. Other constraints reach the
# partitions from their parent. CREATE TABLE has the validated checks.
_CONSTRAINTS = sql.SQL("""
SELECT k.conrelid AS oid, n.nspname AS schema_name, c.relname AS table_name, k.conname,
       CASE k.contype WHEN 'f' THEN 'foreign key' WHEN 'c' THEN 'constraint'
           WHEN 'n' THEN 'constraint' ELSE 'key' END AS kind,
       CASE WHEN k.contype IN ('p', 'u', 'x') THEN k.conname ELSE c.relname END AS name,
       pg_catalog.format('ALTER TABLE %%s%%I.%%I ADD CONSTRAINT %%I %%s',
           CASE WHEN k.contype IN ('p', 'u', 'x') OR (k.contype = 'f' AND c.relkind <> 'p')
               THEN 'ONLY ' END,
           n.nspname, c.relname, k.conname, pg_catalog.pg_get_constraintdef(k.oid)) AS sql,
       fn.nspname AS referenced_schema, f.relname AS referenced_name
  FROM pg_catalog.pg_constraint k
  JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_class f ON f.oid = k.confrelid
  LEFT JOIN pg_catalog.pg_namespace fn ON fn.oid = f.relnamespace
 WHERE k.conrelid = ANY(%(oids)s::oid[])
   AND (k.contype IN ('p', 'u', 'x')
        OR ((k.contype = 'f' OR (k.contype IN ('c', 'n') AND NOT k.convalidated))
            AND (k.conrelid <> ALL(%(partitions)s::oid[])
                 OR (k.conislocal AND k.conparentid = 0))))
   AND {not_internal}
 ORDER BY k.conrelid, k.contype, k.conname
""").format(not_internal=reading.NOT_INTERNAL)

_INDEXES = sql.SQL("""
SELECT x.indrelid AS oid, n.nspname AS schema_name, c.relname AS table_name, i.relname AS name,
       am.amname AS access_method, pg_catalog.pg_get_indexdef(i.oid) AS sql,
       i.relkind = 'i' AS has_rows
  FROM pg_catalog.pg_index x
  JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
  JOIN pg_catalog.pg_am am ON am.oid = i.relam
  JOIN pg_catalog.pg_class c ON c.oid = x.indrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE x.indrelid = ANY(%(oids)s::oid[]) AND {valid_index}
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k
                    WHERE k.conindid = i.oid AND k.contype IN ('p', 'u', 'x'))
 ORDER BY x.indrelid, i.relname
""").format(valid_index=reading.VALID_INDEX)

# pg_get_constraintdef leaves out the storage parameters of a key's index. An expression column's
# statistics target is in the index's own pg_attribute.
_INDEX_CHANGES = sql.SQL("""
WITH x AS (
    SELECT x.*, n.nspname, c.relname, i.relname AS name, i.reloptions,
           pg_catalog.format('ALTER INDEX %%I.%%I ', n.nspname, i.relname) AS alter_index,
           pg_catalog.format('ALTER TABLE ONLY %%I.%%I ', n.nspname, c.relname) AS alter_table,
           EXISTS (SELECT FROM pg_catalog.pg_constraint k
                    WHERE k.conindid = i.oid AND k.contype IN ('p', 'u', 'x')) AS is_key
      FROM pg_catalog.pg_index x
      JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
      JOIN pg_catalog.pg_class c ON c.oid = x.indrelid
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE x.indrelid = ANY(%(oids)s::oid[]) AND {valid_index}
)
SELECT indrelid AS oid, v.kind, nspname AS schema_name, v.name, v.sql
  FROM x CROSS JOIN LATERAL (VALUES
       ('index setting', x.name, CASE WHEN is_key THEN
           alter_index || 'SET (' || (
           SELECT pg_catalog.string_agg(
                      pg_catalog.format('%%I = %%L', option_name, option_value), ', ')
             FROM pg_catalog.pg_options_to_table(reloptions)) || ')' END),
       ('index choice', relname, CASE WHEN indisclustered THEN
           alter_table || 'CLUSTER ON ' || pg_catalog.quote_ident(x.name) END),
       ('index choice', relname, CASE WHEN indisreplident THEN
           alter_table || 'REPLICA IDENTITY USING INDEX ' || pg_catalog.quote_ident(x.name) END)
       ) v(kind, name, sql)
 WHERE v.sql IS NOT NULL
UNION ALL
SELECT indrelid, 'index setting', nspname, name,
       alter_index || pg_catalog.format('ALTER COLUMN %%s SET STATISTICS %%s', attnum,
           attstattarget)
  FROM x JOIN pg_catalog.pg_attribute a ON a.attrelid = x.indexrelid AND attstattarget >= 0
UNION ALL
SELECT indrelid, 'index partition', x.nspname, name,
       pg_catalog.format('ALTER INDEX %%I.%%I ATTACH PARTITION %%I.%%I', pn.nspname, p.relname,
           x.nspname, name)
  FROM x
  JOIN pg_catalog.pg_inherits h ON h.inhrelid = x.indexrelid
  JOIN pg_catalog.pg_class p ON p.oid = h.inhparent
  JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
 WHERE indrelid = ANY(%(partitions)s::oid[])
 ORDER BY oid, kind, sql
""").format(valid_index=reading.VALID_INDEX)

_STATISTICS = """
SELECT s.stxrelid AS oid, v.kind, n.nspname AS schema_name, s.stxname AS name, v.sql
  FROM pg_catalog.pg_statistic_ext s
  JOIN pg_catalog.pg_namespace n ON n.oid = s.stxnamespace
 CROSS JOIN LATERAL (VALUES
       ('statistics', pg_catalog.pg_get_statisticsobjdef(s.oid)),
       ('statistics target', CASE WHEN s.stxstattarget >= 0 THEN
           pg_catalog.format('ALTER STATISTICS %%I.%%I SET STATISTICS %%s', n.nspname, s.stxname,
               s.stxstattarget) END)) v(kind, sql)
 WHERE s.stxrelid = ANY(%(oids)s::oid[]) AND v.sql IS NOT NULL
 ORDER BY s.stxrelid, n.nspname, s.stxname
"""

_POLICIES = """
SELECT p.oid, p.polrelid, p.polname, n.nspname AS schema_name, c.relname AS name
  FROM pg_catalog.pg_policy p
  JOIN pg_catalog.pg_class c ON c.oid = p.polrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE p.polrelid = ANY(%(oids)s::oid[])
 ORDER BY p.polrelid, p.polname
"""

# Printing a subquery locks its tables (ruleutils' AcquireRewriteLocks), which may be others than
# ours.
_STATEMENT = """
SELECT 'policy' AS kind, n.nspname AS schema_name, c.relname AS name,
       pg_catalog.format('CREATE POLICY %%I ON %%I.%%I AS %%s FOR %%s TO %%s%%s%%s',
           p.polname, n.nspname, c.relname,
           CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
           CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE'
               WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
           COALESCE((
               SELECT pg_catalog.string_agg(pg_catalog.quote_ident(r.rolname), ', '
                          ORDER BY r.rolname)
                 FROM pg_catalog.pg_roles r WHERE r.oid = ANY(p.polroles)), 'PUBLIC'),
           ' USING (' || pg_catalog.pg_get_expr(p.polqual, p.polrelid) || ')',
           ' WITH CHECK (' || pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid) || ')') AS sql
  FROM pg_catalog.pg_policy p
  JOIN pg_catalog.pg_class c ON c.oid = p.polrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE p.oid = %(policy)s
"""

# An object's address begins with schema and name of the relation or statistics object.
_COMMENTS = sql.SQL("""
WITH object AS ({table_objects}
    UNION ALL
    SELECT u.relid, 'pg_catalog.pg_class'::regclass, u.oid
      FROM unnest(%(users)s::oid[], %(sequences)s::oid[]) u(relid, oid)
)
SELECT o.relid AS oid, 'comment' AS kind, a.object_names[1] AS schema_name,
       a.object_names[2] AS name,
       pg_catalog.format('COMMENT ON ' || v.target || ' IS %%4$L', a.object_names[1],
           a.object_names[2], a.object_names[3], d.description) AS sql
  FROM object o
  JOIN pg_catalog.pg_description d ON d.classoid = o.classid AND d.objoid = o.objid
 CROSS JOIN LATERAL
       pg_catalog.pg_identify_object_as_address(d.classoid, d.objoid, d.objsubid) a
  JOIN (VALUES
       ('table', 'TABLE %%1$I.%%2$I'), ('foreign table', 'TABLE %%1$I.%%2$I'),
       ('table column', 'COLUMN %%1$I.%%2$I.%%3$I'),
       ('foreign table column', 'COLUMN %%1$I.%%2$I.%%3$I'),
       ('table constraint', 'CONSTRAINT %%3$I ON %%1$I.%%2$I'),
       ('policy', 'POLICY %%3$I ON %%1$I.%%2$I'), ('index', 'INDEX %%1$I.%%2$I'),
       ('statistics object', 'STATISTICS %%1$I.%%2$I'), ('sequence', 'SEQUENCE %%1$I.%%2$I')
       ) v(type, target) USING (type)
 ORDER BY o.relid, 5
""").format(table_objects=reading.TABLE_OBJECTS)


def read_constraint_statements(
    cursor: Cursor, oids: list[int], partitions: list[int]
) -> Iterator[tuple[int, Statement | ForeignKey]]:
    """Keys, late constraints and foreign keys, by their table's OID."""
    for row in reading.rows(cursor, _CONSTRAINTS, oids=oids, partitions=partitions):
        if row["referenced_name"] is None:
            yield row["oid"], reading.statement(row)
            continue
        yield (
            row["oid"],
            ForeignKey(
                table=QualifiedName(schema_name=row["schema_name"], name=row["table_name"]),
                name=row["conname"],
                references=QualifiedName(
                    schema_name=row["referenced_schema"], name=row["referenced_name"]
                ),
                sql=row["sql"],
            ),
        )


def read_indexes(cursor: Cursor, oids: list[int]) -> Iterator[tuple[int, Index]]:
    """The indexes that no constraint owns, by their table's OID."""
    for row in reading.rows(cursor, _INDEXES, oids=oids):
        yield (
            row["oid"],
            Index(
                table=QualifiedName(schema_name=row["schema_name"], name=row["table_name"]),
                name=row["name"],
                access_method=row["access_method"],
                sql=row["sql"],
                has_rows=row["has_rows"],
            ),
        )


def read_index_changes(
    cursor: Cursor, oids: list[int], partitions: list[int]
) -> Iterator[tuple[int, Statement]]:
    """What is set for indexes after they exist, and extended statistics, by their table's OID."""
    yield from reading.statements(cursor, _INDEX_CHANGES, oids=oids, partitions=partitions)
    yield from reading.statements(cursor, _STATISTICS, oids=oids)


def read_policies(cursor: Cursor, oids: list[int]) -> Iterator[tuple[int, Statement | Omission]]:
    """By the table's OID. A policy that cannot be read without waiting is an omission."""
    for policy in reading.rows(cursor, _POLICIES, oids=oids):
        yield policy["polrelid"], _read_policy(cursor, policy)


def _read_policy(cursor: Cursor, policy: reading.Row) -> Statement | Omission:
    try:
        with reading.side_read(cursor):
            (row,) = reading.rows(cursor, _STATEMENT, policy=policy["oid"])
    except psycopg2.errors.LockNotAvailable:
        return Omission(
            kind=OmissionKind.UNREAD_POLICY,
            text=f"policy {policy['polname']} of {policy['schema_name']}.{policy['name']}, which "
            "the backup could not read: a table in it was locked",
        )
    return reading.statement(row)


def read_comments(
    cursor: Cursor, oids: list[int], sequences: Sequence[UsedSequence]
) -> Iterator[tuple[int, Statement]]:
    """By the table's OID; those on sequences by the table that uses them."""
    return reading.statements(
        cursor,
        _COMMENTS,
        oids=oids,
        users=[sequence.table for sequence in sequences],
        sequences=[sequence.oid for sequence in sequences],
    )
