"""Reading the catalogs: rows by column name, statements, and reads that don't wait for locks.

Queries print a relation as `regclass`: under the empty search path, schema-qualified and quoted.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.postgres.session import savepoint, set_local
from vector_backup_pipeline.engine.table_definition import Kind, QualifiedName, Statement

# A catalog row by column name.
Row = dict[str, Any]

# Longer than most locks are held, but short for the sessions that queue behind this one.
_SIDE_LOCK_TIMEOUT = "200ms"

# A foreign key to a partitioned table has one more row in pg_constraint for each partition, which
# belongs to the same table as its parent row. PostgreSQL makes these itself.
NOT_INTERNAL = sql.SQL("""NOT EXISTS (
       SELECT FROM pg_constraint above
        WHERE above.oid = k.conparentid AND above.conrelid = k.conrelid)""")
# A partitioned table's index is "invalid" until each partition's is attached.
VALID_INDEX = sql.SQL("x.indislive AND ((x.indisvalid AND x.indisready) OR i.relkind = 'I')")
# The objects that a table's statements come from, and the table's OID. Columns are in pg_class.
TABLE_OBJECTS = sql.SQL("""
    SELECT c.oid AS relid, 'pg_class'::regclass AS classid, c.oid AS objid
      FROM pg_class c WHERE c.oid = ANY(%(oids)s::oid[])
    UNION ALL
    SELECT x.indrelid, 'pg_class'::regclass, x.indexrelid
      FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
     WHERE x.indrelid = ANY(%(oids)s::oid[]) AND {valid_index}
    UNION ALL
    SELECT d.adrelid, 'pg_attrdef'::regclass, d.oid
      FROM pg_attrdef d WHERE d.adrelid = ANY(%(oids)s::oid[])
    UNION ALL
    SELECT k.conrelid, 'pg_constraint'::regclass, k.oid
      FROM pg_constraint k
     WHERE k.conrelid = ANY(%(oids)s::oid[]) AND k.contype <> 't' AND {not_internal}
    UNION ALL
    SELECT p.polrelid, 'pg_policy'::regclass, p.oid
      FROM pg_policy p WHERE p.polrelid = ANY(%(oids)s::oid[])
    UNION ALL
    SELECT s.stxrelid, 'pg_statistic_ext'::regclass, s.oid
      FROM pg_statistic_ext s WHERE s.stxrelid = ANY(%(oids)s::oid[])
""").format(valid_index=VALID_INDEX, not_internal=NOT_INTERNAL)
# The columns of the primary key of a table c in pg_class.
PRIMARY_KEY = sql.SQL("""ARRAY(
           SELECT a.attname::text
             FROM pg_constraint k
            CROSS JOIN unnest(k.conkey) WITH ORDINALITY u(attnum, number)
             JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = u.attnum
            WHERE k.conrelid = c.oid AND k.contype = 'p'
            ORDER BY u.number)""")
# The tables and their partitions. pg_partition_tree() would lock these; reading pg_inherits locks
# none. A partition whose DETACH CONCURRENTLY is under way no longer belongs to the table.
_PARTITION_TREE = sql.SQL("""tree(root, oid, depth) AS (
    SELECT oid, oid, 0 FROM unnest(%(oids)s::oid[]) AS oid
    UNION ALL
    SELECT tree.root, i.inhrelid, tree.depth + 1
      FROM tree
      JOIN pg_class p ON p.oid = tree.oid AND p.relkind = 'p'
      JOIN pg_inherits i ON i.inhparent = p.oid AND NOT {detaching}
)""")
# The types of the tables' columns (`root`) and what they contain, down to the last element of
# arrays, domains, ranges and composites.
_CONTAINED_TYPES = sql.SQL("""contained(root, oid) AS (
    SELECT atttypid, atttypid FROM pg_attribute
     WHERE attrelid = ANY(%(oids)s::oid[]) AND attnum > 0
    UNION
    SELECT contained.root, part.oid
      FROM contained
      JOIN pg_type t ON t.oid = contained.oid
     CROSS JOIN LATERAL (
           SELECT t.typelem UNION ALL SELECT t.typbasetype UNION ALL
           SELECT r.rngsubtype FROM pg_range r WHERE {range_of_type} UNION ALL
           SELECT atttypid FROM pg_attribute WHERE attrelid = t.typrelid AND attnum > 0
           ) part(oid)
)""")


def server_version(cursor: Cursor) -> int:
    return int(cursor.connection.server_version)


def since_14(cursor: Cursor, expression: str, otherwise: str) -> sql.SQL:
    """`expression` on PostgreSQL 14 and newer, else `otherwise`."""
    return sql.SQL(expression if server_version(cursor) >= 140000 else otherwise)


def rows(cursor: Cursor, query: str | sql.Composable, **parameters: object) -> list[Row]:
    # Without parameters psycopg2 leaves `%` alone, which a quoted name may contain.
    cursor.execute(query, parameters or None)
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def partition_tree(cursor: Cursor) -> sql.Composed:
    return _PARTITION_TREE.format(detaching=since_14(cursor, "i.inhdetachpending", "false"))


def contained_types(cursor: Cursor) -> sql.Composed:
    range_of_type = since_14(
        cursor, "t.oid IN (r.rngtypid, r.rngmultitypid)", otherwise="t.oid = r.rngtypid"
    )
    return _CONTAINED_TYPES.format(range_of_type=range_of_type)


class Catalog:
    """Queries of the catalogs about some tables and partitions. `names` has their names by OID.

    In a query, the parameter `oids` has all their OIDs, `partitions` those of the partitions. Each
    row has the OID of its table as `oid`.
    """

    def __init__(
        self, cursor: Cursor, names: Mapping[int, QualifiedName], partitions: list[int]
    ) -> None:
        self.cursor = cursor
        self.names = names
        self.parameters = {"oids": list(names), "partitions": partitions}

    def rows(self, query: str | sql.Composable) -> list[Row]:
        return rows(self.cursor, query, **self.parameters)

    def statements(self, query: str | sql.Composable) -> Iterator[tuple[int, Statement]]:
        """The statements that a query returns, by the OID of their table. Rows without a schema or
        name get those of the table."""
        for row in self.rows(query):
            table = self.names[row["oid"]]
            schema, name = row.get("schema_name", table.schema_name), row.get("name", table.name)
            yield row["oid"], Statement(Kind(row["kind"]), schema, name, row["sql"])


@contextmanager
def side_read(cursor: Cursor) -> Iterator[None]:
    """A read that locks something other than the tables, for its own duration only.

    It is always rolled back: that releases the locks taken inside and resets `lock_timeout`.
    """
    with savepoint(cursor, keeps=False):
        set_local(cursor, {"lock_timeout": _SIDE_LOCK_TIMEOUT})
        yield
