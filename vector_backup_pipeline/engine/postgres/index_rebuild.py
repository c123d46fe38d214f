"""Indexes of a table that takes more rows than it keeps: dropped before the load, built after it.

Both in one transaction, so that no session ever sees the table without them. Only indexes whose
definition says all about them are dropped; unique indexes stay, because they refuse rows.
"""

from collections.abc import Callable, Sequence

from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Identifier

from vector_backup_pipeline.engine.postgres.definitions.constraints import read_indexes
from vector_backup_pipeline.engine.postgres.session import check_deferred_constraints, set_local
from vector_backup_pipeline.engine.table_definition import Index

BeforeIndex = Callable[[Index], None]

# Dropping takes the table owner's rights, and CREATE on the schema to make it again. A definition
# has no comment, tablespace, statistics target or dependency on an extension. A user's own function
# may use unqualified names, which CREATE INDEX does not find (from PostgreSQL 17 on, it searches no
# schema): its index is kept up while the rows are loaded.
_REBUILDABLE = SQL("""
       c.relkind = 'r' AND NOT c.relispartition
   AND NOT (x.indisunique OR x.indisexclusion OR x.indisreplident OR x.indisclustered)
   AND i.reltablespace = 0 AND obj_description(i.oid, 'pg_class') IS NULL
   AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = i.oid AND a.attstattarget >= 0)
   AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.oid)
   AND NOT EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = i.oid)
   AND NOT EXISTS (SELECT FROM pg_depend d
                    WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = i.oid)
   AND NOT EXISTS (SELECT FROM pg_depend d
                    WHERE d.classid = 'pg_class'::regclass AND d.objid = i.oid
                      AND (d.deptype IN ('e', 'x')
                           OR (d.refclassid = 'pg_proc'::regclass
                               AND NOT EXISTS (
                                   SELECT FROM pg_depend e
                                    WHERE e.classid = d.refclassid AND e.objid = d.refobjid
                                      AND e.deptype = 'e'))))
   AND pg_has_role(c.relowner, 'USAGE') AND has_schema_privilege(c.relnamespace, 'CREATE')
""")


def rebuildable_indexes(cursor: Cursor, oid: int) -> list[Index]:
    """The indexes of the table `oid` that this role may drop and can recreate identically."""
    return [index for _, index in read_indexes(cursor, [oid], _REBUILDABLE)]


def drop_indexes(cursor: Cursor, indexes: Sequence[Index]) -> None:
    """Drop the indexes. The lock on their table also blocks readers."""
    for index in indexes:
        name = Identifier(index.table.schema_name, index.name)
        cursor.execute(SQL("DROP INDEX {}").format(name))


def rebuild_indexes(cursor: Cursor, indexes: Sequence[Index], before_index: BeforeIndex) -> None:
    """Build them as they were; `before_index` is called before each.

    Deferred constraints are checked here already.
    """
    if not indexes:
        return
    # PostgreSQL builds no index on a table whose rows still wait for such a check.
    check_deferred_constraints(cursor)
    set_local(cursor, {"default_tablespace": ""})
    for index in indexes:
        before_index(index)
        cursor.execute(index.sql)
    cursor.execute("SET LOCAL default_tablespace TO DEFAULT")
