"""What is created over the rows: constraints, indexes, extended statistics, policies, comments."""

from collections.abc import Iterator

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.postgres.definitions import reading
from vector_backup_pipeline.engine.postgres.definitions.reading import Catalog
from vector_backup_pipeline.engine.postgres.session import fetch_value
from vector_backup_pipeline.engine.table_definition import (
    ForeignKey,
    Index,
    Kind,
    ObjectAddress,
    Omission,
    OmissionKind,
    QualifiedName,
    Statement,
)

# Keys are altered ONLY: each partition has its own, attached later. Other constraints reach the
# partitions from their parent. CREATE TABLE has the validated checks.
_CONSTRAINTS = sql.SQL("""
SELECT k.conrelid AS oid, k.conname,
       CASE k.contype WHEN 'f' THEN 'foreign key' WHEN 'c' THEN 'constraint'
           WHEN 'n' THEN 'constraint' ELSE 'key' END AS kind,
       CASE WHEN k.contype IN ('p', 'u', 'x') THEN k.conname ELSE c.relname END AS name,
       format('ALTER TABLE %%s%%s ADD CONSTRAINT %%I %%s',
           CASE WHEN k.contype IN ('p', 'u', 'x') OR (k.contype = 'f' AND c.relkind <> 'p')
               THEN 'ONLY ' END,
           c.oid::regclass, k.conname, pg_get_constraintdef(k.oid)) AS sql,
       fn.nspname AS referenced_schema, f.relname AS referenced_name
  FROM pg_constraint k
  JOIN pg_class c ON c.oid = k.conrelid
  LEFT JOIN pg_class f ON f.oid = k.confrelid
  LEFT JOIN pg_namespace fn ON fn.oid = f.relnamespace
 WHERE k.conrelid = ANY(%(oids)s::oid[])
   AND (k.contype IN ('p', 'u', 'x')
        OR ((k.contype = 'f' OR (k.contype IN ('c', 'n') AND NOT k.convalidated))
            AND (k.conrelid <> ALL(%(partitions)s::oid[])
                 OR (k.conislocal AND k.conparentid = 0))))
   AND {not_internal}
 ORDER BY k.conrelid, k.contype, k.conname
""").format(not_internal=reading.NOT_INTERNAL)

_ANY_INDEX = sql.SQL("true")
_INDEXES = sql.SQL("""
SELECT x.indrelid AS oid, n.nspname AS schema_name, c.relname AS table_name, i.relname AS name,
       am.amname AS access_method, pg_get_indexdef(i.oid) AS sql,
       i.relkind = 'i' AS has_rows
  FROM pg_index x
  JOIN pg_class i ON i.oid = x.indexrelid
  JOIN pg_am am ON am.oid = i.relam
  JOIN pg_class c ON c.oid = x.indrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE x.indrelid = ANY(%(oids)s::oid[]) AND {valid_index} AND {condition}
   AND NOT EXISTS (SELECT FROM pg_constraint k
                    WHERE k.conindid = i.oid AND k.contype IN ('p', 'u', 'x'))
 ORDER BY x.indrelid, i.relname
""")

# pg_get_constraintdef leaves out the storage parameters of a key's index. An expression column's
# statistics target is in the index's own pg_attribute.
_INDEX_CHANGES = sql.SQL("""
WITH x AS (
    SELECT x.*, c.relname, i.relname AS name, i.reloptions,
           format('ALTER INDEX %%s ', i.oid::regclass) AS alter_index,
           format('ALTER TABLE ONLY %%s ', c.oid::regclass) AS alter_table,
           EXISTS (SELECT FROM pg_constraint k
                    WHERE k.conindid = i.oid AND k.contype IN ('p', 'u', 'x')) AS is_key
      FROM pg_index x
      JOIN pg_class i ON i.oid = x.indexrelid
      JOIN pg_class c ON c.oid = x.indrelid
     WHERE x.indrelid = ANY(%(oids)s::oid[]) AND {valid_index}
)
SELECT indrelid AS oid, v.kind, v.name, v.sql
  FROM x CROSS JOIN LATERAL (VALUES
       ('index setting', x.name, CASE WHEN is_key THEN
           alter_index || 'SET (' || (
           SELECT string_agg(
                      format('%%I = %%L', option_name, option_value), ', ')
             FROM pg_options_to_table(reloptions)) || ')' END),
       ('index choice', relname, CASE WHEN indisclustered THEN
           alter_table || 'CLUSTER ON ' || quote_ident(x.name) END),
       ('index choice', relname, CASE WHEN indisreplident THEN
           alter_table || 'REPLICA IDENTITY USING INDEX ' || quote_ident(x.name) END)
       ) v(kind, name, sql)
 WHERE v.sql IS NOT NULL
UNION ALL
SELECT indrelid, 'index setting', name,
       alter_index || format('ALTER COLUMN %%s SET STATISTICS %%s', attnum, attstattarget)
  FROM x JOIN pg_attribute a ON a.attrelid = x.indexrelid AND attstattarget >= 0
UNION ALL
SELECT indrelid, 'index partition', name,
       format('ALTER INDEX %%s ATTACH PARTITION %%s', h.inhparent::regclass, h.inhrelid::regclass)
  FROM x JOIN pg_inherits h ON h.inhrelid = x.indexrelid
 WHERE indrelid = ANY(%(partitions)s::oid[])
 ORDER BY oid, kind, sql
""").format(valid_index=reading.VALID_INDEX)

_STATISTICS = """
SELECT s.stxrelid AS oid, v.kind, n.nspname AS schema_name, s.stxname AS name, v.sql
  FROM pg_statistic_ext s
  JOIN pg_namespace n ON n.oid = s.stxnamespace
 CROSS JOIN LATERAL (VALUES
       ('statistics', pg_get_statisticsobjdef(s.oid)),
       ('statistics target', CASE WHEN s.stxstattarget >= 0 THEN
           format('ALTER STATISTICS %%I.%%I SET STATISTICS %%s', n.nspname, s.stxname,
               s.stxstattarget) END)) v(kind, sql)
 WHERE s.stxrelid = ANY(%(oids)s::oid[]) AND v.sql IS NOT NULL
 ORDER BY s.stxrelid, n.nspname, s.stxname
"""

_POLICIES = """
SELECT p.polrelid AS oid, p.oid AS policy, p.polname AS name,
       ARRAY(SELECT r.rolname::text FROM pg_roles r WHERE r.oid = ANY(p.polroles)
              ORDER BY 1) AS roles
  FROM pg_policy p
 WHERE p.polrelid = ANY(%(oids)s::oid[])
 ORDER BY p.polrelid, p.polname
"""

# Printing a subquery locks its tables (ruleutils' AcquireRewriteLocks), which may be others than
# ours.
_CREATE_POLICY = """
SELECT format('CREATE POLICY %%I ON %%s AS %%s FOR %%s TO %%s%%s%%s',
           p.polname, p.polrelid::regclass,
           CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
           CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE'
               WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
           COALESCE((
               SELECT string_agg(quote_ident(r.rolname), ', ' ORDER BY r.rolname)
                 FROM pg_roles r WHERE r.oid = ANY(p.polroles)), 'PUBLIC'),
           ' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')',
           ' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')')
  FROM pg_policy p WHERE p.oid = %s
"""

# An object's address begins with schema and name of the relation or statistics object.
_COMMENTS = sql.SQL("""
WITH object AS ({table_objects}
    UNION ALL
    SELECT u.relid, 'pg_class'::regclass, u.oid
      FROM unnest(%(users)s::oid[], %(sequences)s::oid[]) u(relid, oid)
)
SELECT o.relid AS oid, 'comment' AS kind, a.object_names[1] AS schema_name,
       a.object_names[2] AS name,
       format('COMMENT ON ' || v.target || ' IS %%4$L', a.object_names[1],
           a.object_names[2], a.object_names[3], d.description) AS sql
  FROM object o
  JOIN pg_description d ON d.classoid = o.classid AND d.objoid = o.objid
 CROSS JOIN LATERAL pg_identify_object_as_address(d.classoid, d.objoid, d.objsubid) a
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


def read_constraints(catalog: Catalog) -> Iterator[tuple[int, Statement | ForeignKey]]:
    """Keys, late constraints and foreign keys, by their table's OID."""
    for row in catalog.rows(_CONSTRAINTS):
        oid, table = row["oid"], catalog.names[row["oid"]]
        if row["referenced_name"] is None:
            name = row["name"]
            yield oid, Statement(Kind(row["kind"]), table.schema_name, name, row["sql"])
        else:
            other = QualifiedName(schema_name=row["referenced_schema"], name=row["referenced_name"])
            name = row["conname"]
            yield oid, ForeignKey(table=table, name=name, references=other, sql=row["sql"])


def read_indexes(
    cursor: Cursor, oids: list[int], condition: sql.SQL = _ANY_INDEX
) -> Iterator[tuple[int, Index]]:
    """The indexes that no constraint owns, by their table's OID.

    `condition` is about the index: `x` in pg_index, `i` in pg_class, and its table `c`.
    """
    query = _INDEXES.format(valid_index=reading.VALID_INDEX, condition=condition)
    for row in reading.rows(cursor, query, oids=oids):
        oid = row.pop("oid")
        table = QualifiedName(schema_name=row.pop("schema_name"), name=row.pop("table_name"))
        yield oid, Index(table=table, **row)


def read_policies(catalog: Catalog) -> Iterator[tuple[int, Statement | Omission | ObjectAddress]]:
    """Policies and their roles, by the table's OID. A policy that cannot be read without waiting is
    an omission."""
    for row in catalog.rows(_POLICIES):
        oid, table = row["oid"], catalog.names[row["oid"]]
        for role in row["roles"]:
            yield oid, ObjectAddress(kind="role", names=(role,), description=f"role {role}")
        try:
            with reading.side_read(catalog.cursor):
                create = fetch_value(catalog.cursor, _CREATE_POLICY, (row["policy"],))
        except psycopg2.errors.LockNotAvailable:
            text = (
                f"policy {row['name']} of {table}, which the backup could not read: a table in it "
                "was locked"
            )
            yield oid, Omission(kind=OmissionKind.UNREAD_POLICY, text=text)
        else:
            yield oid, Statement(Kind.POLICY, *table.qualified_name, create)


def read_changes(catalog: Catalog) -> Iterator[tuple[int, Statement]]:
    """Settings of indexes, extended statistics, and comments, by their table's OID; those on
    sequences by the OID of the table that uses them."""
    for query in (_INDEX_CHANGES, _STATISTICS, _COMMENTS):
        yield from catalog.statements(query)
