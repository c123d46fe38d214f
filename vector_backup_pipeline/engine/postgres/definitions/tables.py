"""Tables and partitions (pg_class, pg_inherits, pg_attribute): CREATE TABLE and typed columns."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.postgres.definitions.reading import (
    PRIMARY_KEY,
    Catalog,
    contained_types,
    partition_tree,
    rows,
    since_14,
)
from vector_backup_pipeline.engine.table_definition import (
    Column,
    ColumnType,
    QualifiedName,
    Statement,
)

_TREE = sql.SQL("""
WITH RECURSIVE {partition_tree}
SELECT tree.root, tree.oid, n.nspname AS schema_name, c.relname AS name,
       pg_get_userbyid(c.relowner) AS owner, {primary_key} AS primary_key
  FROM tree
  JOIN pg_class c USING (oid)
  JOIN pg_namespace n ON n.oid = c.relnamespace
 ORDER BY tree.depth, n.nspname, c.relname
""")

# Of a sequence s in pg_sequence.
SEQUENCE_OPTIONS = sql.SQL("""format(
           'START WITH %%s INCREMENT BY %%s MINVALUE %%s MAXVALUE %%s CACHE %%s%%s', s.seqstart,
           s.seqincrement, s.seqmin, s.seqmax, s.seqcache,
           CASE WHEN s.seqcycle THEN ' CYCLE' END)""")

# A column's collation, where it is not its type's own.
COLLATION = sql.SQL("'COLLATE ' || NULLIF(a.attcollation, t.typcollation)::regcollation::text")

# A partition states all of its columns and checks, since ATTACH PARTITION merges them. Its identity
# is its root's. From PostgreSQL 18 on, NOT NULL is a constraint with a name; an unvalidated one
# comes later. Constraints that are NOT ENFORCED are not validated either.
_CREATE_TABLE = sql.SQL("""
WITH column_sql AS (
SELECT a.attrelid, a.attnum, concat_ws(' ',
           quote_ident(a.attname), format_type(a.atttypid, a.atttypmod),
           {collation},
           CASE
           WHEN a.attgenerated <> '' THEN format('GENERATED ALWAYS AS (%%s) %%s',
               e.sql, CASE a.attgenerated WHEN 's' THEN 'STORED' ELSE 'VIRTUAL' END)
           WHEN identity.sql IS NOT NULL THEN format('GENERATED %%s AS IDENTITY (%%s)',
               CASE a.attidentity WHEN 'a' THEN 'ALWAYS' ELSE 'BY DEFAULT' END, identity.sql)
           ELSE 'DEFAULT ' || e.sql END,
           CASE
           WHEN k.convalidated THEN format('CONSTRAINT %%I NOT NULL%%s', k.conname,
               CASE WHEN k.connoinherit THEN ' NO INHERIT' END)
           WHEN k.oid IS NULL AND a.attnotnull THEN 'NOT NULL' END) AS sql
  FROM pg_attribute a
  JOIN pg_type t ON t.oid = a.atttypid
  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
  LEFT JOIN LATERAL pg_get_expr(d.adbin, d.adrelid) e(sql) ON true
  LEFT JOIN pg_constraint k
    ON k.conrelid = a.attrelid AND k.contype = 'n' AND k.conkey = ARRAY[a.attnum]
  LEFT JOIN LATERAL (
       SELECT format('SEQUENCE NAME %%s %%s', s.seqrelid::regclass, {options})
         FROM pg_depend i
         JOIN pg_sequence s ON s.seqrelid = i.objid
        WHERE i.classid = 'pg_class'::regclass AND i.refclassid = i.classid
          AND i.refobjid = a.attrelid AND i.refobjsubid = a.attnum AND i.deptype = 'i'
          AND a.attrelid <> ALL(%(partitions)s::oid[])) identity(sql) ON true
 WHERE a.attrelid = ANY(%(oids)s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
)
SELECT c.oid, v.kind, v.sql
  FROM pg_class c
  LEFT JOIN pg_am am ON am.oid = c.relam
  LEFT JOIN pg_inherits h ON h.inhrelid = c.oid AND c.oid = ANY(%(partitions)s::oid[])
 CROSS JOIN LATERAL (VALUES
       ('table', format('CREATE %%sTABLE %%s (%%s)%%s%%s',
           -- PostgreSQL 18 refuses an unlogged partitioned table.
           CASE WHEN c.relpersistence = 'u' AND c.relkind <> 'p' THEN 'UNLOGGED ' END,
           c.oid::regclass,
           array_to_string(
               ARRAY(SELECT l.sql FROM column_sql l WHERE l.attrelid = c.oid ORDER BY l.attnum)
               || ARRAY(SELECT format('CONSTRAINT %%I %%s', k.conname, pg_get_constraintdef(k.oid))
                          FROM pg_constraint k
                         WHERE k.conrelid = c.oid AND k.contype = 'c' AND k.convalidated
                         ORDER BY k.conname), ', '),
           ' PARTITION BY ' || CASE WHEN c.relkind = 'p' THEN pg_get_partkeydef(c.oid) END,
           ' USING ' || quote_ident(NULLIF(am.amname, 'heap')))),
       -- A bound has no columns, so pg_get_expr needs no relation (newer servers would lock it).
       ('partition', CASE WHEN h.inhparent IS NOT NULL THEN
           format('ALTER TABLE ONLY %%s ATTACH PARTITION %%s %%s',
               h.inhparent::regclass, c.oid::regclass, pg_get_expr(c.relpartbound, 0))
           END)
       ) v(kind, sql)
 WHERE c.oid = ANY(%(oids)s::oid[]) AND v.sql IS NOT NULL
""")

# attstattarget is -1, and NULL from PostgreSQL 17 on, for the default.
_SETTINGS = sql.SQL("""
WITH c AS (
    SELECT c.*, format('ALTER TABLE ONLY %%s ', c.oid::regclass) AS alter_table
      FROM pg_class c WHERE c.oid = ANY(%(oids)s::oid[])
), a AS (
    SELECT a.*, t.typstorage,
           c.alter_table || format('ALTER COLUMN %%I SET ', a.attname) AS alter_column
      FROM pg_attribute a
      JOIN c ON c.oid = a.attrelid
      JOIN pg_type t ON t.oid = a.atttypid
     WHERE a.attnum > 0 AND NOT a.attisdropped
)
SELECT attrelid AS oid, v.kind, attnum, v.number, alter_column || v.sql AS sql
  FROM a CROSS JOIN LATERAL (VALUES
       ('column', 0::bigint, CASE WHEN attstorage <> typstorage THEN 'STORAGE ' ||
           CASE attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'm' THEN 'MAIN'
               ELSE 'EXTENDED' END END),
       ('column', 1, CASE WHEN attstattarget >= 0 THEN 'STATISTICS ' || attstattarget END),
       ('setting', 0, CASE {compression} WHEN 'p' THEN 'COMPRESSION pglz'
           WHEN 'l' THEN 'COMPRESSION lz4' END)) v(kind, number, sql)
 WHERE v.sql IS NOT NULL
UNION ALL
SELECT c.oid, 'setting', v.number, o.number,
       c.alter_table || format('SET (%%s%%I = %%L)', v.prefix, o.name, o.value)
  FROM c LEFT JOIN pg_class toast ON toast.oid = c.reltoastrelid
 CROSS JOIN LATERAL (VALUES (-1, '', c.reloptions), (0, 'toast.', toast.reloptions))
       v(number, prefix, options)
 CROSS JOIN LATERAL pg_options_to_table(v.options)
       WITH ORDINALITY o(name, value, number)
UNION ALL
SELECT attrelid, 'setting', attnum, o.number,
       alter_column || format('(%%I = %%L)', o.name, o.value)
  FROM a
 CROSS JOIN LATERAL pg_options_to_table(attoptions)
       WITH ORDINALITY o(name, value, number)
UNION ALL
SELECT c.oid, v.kind, 0, v.number, c.alter_table || v.sql
  FROM c CROSS JOIN LATERAL (VALUES
       ('index choice', 0, c.relreplident = 'f', 'REPLICA IDENTITY FULL'),
       ('index choice', 0, c.relreplident = 'n', 'REPLICA IDENTITY NOTHING'),
       ('row security', 1, c.relrowsecurity, 'ENABLE ROW LEVEL SECURITY'),
       ('row security', 2, c.relforcerowsecurity, 'FORCE ROW LEVEL SECURITY')
       ) v(kind, number, is_set, sql)
 WHERE v.is_set
 ORDER BY oid, attnum, number
""")

# array_send writes the element type's OID, record_send every attribute's; reg* types are sent as
# OIDs. Built-in OIDs are the same anywhere.
_COLUMNS = sql.SQL("""
WITH RECURSIVE {contained_types}
SELECT a.attrelid AS oid, a.attname AS column, a.attgenerated <> '' AS generated,
       format_type(a.atttypid, a.atttypmod) AS text, n.nspname AS schema_name, t.typname AS name,
       a.atttypmod AS modifier,
       a.atttypid NOT IN (
           SELECT contained.root FROM contained JOIN pg_type t USING (oid)
            WHERE t.typtype IN ('c', 'p')
               OR (t.typnamespace = 'pg_catalog'::regnamespace AND t.typname ~ '^reg')
               OR (t.typcategory = 'A' AND t.typelem >= 16384)
               OR t.typsend = 0 OR t.typreceive = 0) AS binary_portable
  FROM pg_attribute a
  JOIN pg_type t ON t.oid = a.atttypid
  JOIN pg_namespace n ON n.oid = t.typnamespace
 WHERE a.attrelid = ANY(%(oids)s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attrelid, a.attnum
""")


@dataclass(frozen=True)
class Tree:
    """A table of the backup and its partitions: their names by OID, parents first."""

    owner: str
    primary_key: tuple[str, ...]
    names: dict[int, QualifiedName] = field(default_factory=dict)

    @property
    def root(self) -> int:
        return next(iter(self.names))

    def created_with(self, trees: Iterable["Tree"]) -> QualifiedName | None:
        """The topmost table of the backup that this one is a partition of."""
        holders = [tree for tree in trees if tree is not self and self.root in tree.names]
        top = max(holders, key=lambda tree: len(tree.names), default=None)
        return None if top is None else top.names[top.root]


def read_trees(cursor: Cursor, oids: list[int]) -> list[Tree]:
    """In the order of `oids`; tables that do not exist any more are missing."""
    trees: dict[int, Tree] = {}
    query = _TREE.format(partition_tree=partition_tree(cursor), primary_key=PRIMARY_KEY)
    for row in rows(cursor, query, oids=oids):
        tree = trees.setdefault(row["root"], Tree(row["owner"], tuple(row["primary_key"])))
        name = QualifiedName(schema_name=row["schema_name"], name=row["name"])
        tree.names[row["oid"]] = name
    return [trees[oid] for oid in oids if oid in trees]


def read_table_statements(catalog: Catalog) -> Iterator[tuple[int, Statement]]:
    """CREATE TABLE, ATTACH PARTITION and what is set for tables and columns, by the table's OID."""
    compression = since_14(catalog.cursor, "attcompression", "''")
    yield from catalog.statements(
        _CREATE_TABLE.format(collation=COLLATION, options=SEQUENCE_OPTIONS)
    )
    yield from catalog.statements(_SETTINGS.format(compression=compression))


def read_columns(catalog: Catalog) -> dict[int, tuple[Column, ...]]:
    columns: dict[int, tuple[Column, ...]] = defaultdict(tuple)
    for row in catalog.rows(_COLUMNS.format(contained_types=contained_types(catalog.cursor))):
        oid, name, generated = row.pop("oid"), row.pop("column"), row.pop("generated")
        columns[oid] += (Column(name=name, type=ColumnType(**row), generated=generated),)
    return columns
