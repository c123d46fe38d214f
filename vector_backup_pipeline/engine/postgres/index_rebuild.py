"""Indexes of a table that takes more rows than it keeps: dropped before the load, built after it.

Both in one transaction, so that no session ever sees the table without them. Only what can be made
again exactly as it was is touched; unique indexes stay, because they refuse rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Identifier

from vector_backup_pipeline.engine.postgres.definitions.constraints import (
    read_index_changes,
    read_indexes,
)
from vector_backup_pipeline.engine.postgres.definitions.reading import rows
from vector_backup_pipeline.engine.postgres.session import check_deferred_constraints, set_local
from vector_backup_pipeline.engine.table_definition import Index, Kind

BeforeIndex = Callable[[Index], None]

# Dropping takes the table owner's rights, and CREATE on the schema and the tablespace to make it
# again. An index that names an extension it depends on would come back without that. A user's own
# function may use unqualified names, which CREATE INDEX does not find (from PostgreSQL 17 on, under
# no search path): its index is kept up while the rows are loaded.
_REBUILDABLE = """
SELECT i.relname AS name,
       t.spcname AS tablespace, 'COMMENT ON INDEX ' || pg_catalog.format('%%I.%%I IS %%L',
           n.nspname, i.relname, pg_catalog.obj_description(i.oid, 'pg_class')) AS comment
  FROM pg_catalog.pg_index x
  JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
  JOIN pg_catalog.pg_class c ON c.oid = x.indrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_tablespace t ON t.oid = i.reltablespace
 WHERE x.indrelid = %(oid)s AND c.relkind = 'r' AND NOT c.relispartition
   AND x.indisvalid AND x.indisready AND x.indislive
   AND NOT (x.indisunique OR x.indisexclusion OR x.indisreplident OR x.indisclustered)
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conindid = i.oid)
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits h WHERE h.inhrelid = i.oid)
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                    WHERE d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = i.oid)
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                    WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = i.oid
                      AND (d.deptype IN ('e', 'x')
                           OR (d.refclassid = 'pg_catalog.pg_proc'::regclass
                               AND NOT EXISTS (
                                   SELECT FROM pg_catalog.pg_depend e
                                    WHERE e.classid = d.refclassid AND e.objid = d.refobjid
                                      AND e.deptype = 'e'))))
   AND pg_catalog.pg_has_role(c.relowner, 'USAGE')
   AND pg_catalog.has_schema_privilege(n.oid, 'CREATE')
   AND (t.oid IS NULL OR pg_catalog.has_tablespace_privilege(t.oid, 'CREATE'))
 ORDER BY i.oid
"""


@dataclass(frozen=True)
class RebuildableIndex:
    """An index. `tablespace` None is the database's own; `changes` are the statements for what its
    definition leaves out."""

    index: Index
    tablespace: str | None
    changes: tuple[str, ...]


def rebuildable_indexes(cursor: Cursor, oid: int) -> list[RebuildableIndex]:
    """The indexes of the table `oid` that this role may drop and can recreate identically."""
    index_rows = rows(cursor, _REBUILDABLE, oid=oid)
    indexes = {index.name: index for _, index in read_indexes(cursor, [oid])}
    changes = [
        change
        for _, change in read_index_changes(cursor, [oid], partitions=[])
        if change.kind is Kind.INDEX_SETTING
    ]
    return [
        RebuildableIndex(
            index=indexes[row["name"]],
            tablespace=row["tablespace"],
            changes=(
                *(change.sql for change in changes if change.name == row["name"]),
                row["comment"],
            ),
        )
        for row in index_rows
    ]


def drop_indexes(cursor: Cursor, indexes: Sequence[RebuildableIndex]) -> None:
    """Drop the indexes. The lock on their table also blocks readers."""
    for index in (rebuildable.index for rebuildable in indexes):
        name = Identifier(index.table.schema_name, index.name)
        cursor.execute(SQL("DROP INDEX {}").format(name))


def rebuild_indexes(
    cursor: Cursor, indexes: Sequence[RebuildableIndex], before_index: BeforeIndex
) -> None:
    """Build them as they were; `before_index` is called before each.

    Deferred constraints are checked here already.
    """
    if not indexes:
        return
    # PostgreSQL builds no index on a table whose rows still wait for such a check.
    check_deferred_constraints(cursor)
    for index in indexes:
        before_index(index.index)
        # A definition names no tablespace, and the session may have a default.
        set_local(cursor, {"default_tablespace": index.tablespace or ""})
        for statement in (index.index.sql, *index.changes):
            cursor.execute(statement)
    cursor.execute("SET LOCAL default_tablespace TO DEFAULT")
