"""Lookup of the tables to back up, with their partitions, columns and sizes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import psycopg2
from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Composable, Identifier

from vector_backup_pipeline.engine import errors
from vector_backup_pipeline.engine.postgres.definitions.reading import partition_tree
from vector_backup_pipeline.engine.postgres.session import fetch_rows, own_search_path, savepoint
from vector_backup_pipeline.parameters.table_names import TableName, parse_table_name

ORDINARY, PARTITIONED, _FOREIGN = "r", "p", "f"
# TID range scans; older servers would read the whole table for every range.
_RANGES_SINCE = 140000
# Connection lost, out of resources, lock not available or statement canceled, system error: these
# errors are not caused by the table.
_SERVER_TROUBLE = {"08", "53", "55", "57", "58"}


@dataclass(frozen=True)
class Table:
    """A table of the database. `kind` is pg_class.relkind."""

    oid: int
    schema: str
    name: str
    kind: str

    @property
    def target(self) -> Composable:
        """Its name in LOCK, TRUNCATE and SELECT: with `ONLY` unless its rows are in partitions."""
        return relation_name(self.schema, self.name, only=self.kind != PARTITIONED)


@dataclass(frozen=True)
class ResolvedTable(Table):
    """The table that a name refers to, before anything is locked. `requested` is the caller's text.

    `truncate_refusal` says why this role may not truncate it, if it may not.
    """

    requested: str
    truncate_refusal: errors.BackupError | None

    @property
    def can_be_locked(self) -> bool:
        # PostgreSQL: "LOCK TABLE cannot lock foreign tables"; their SELECT takes its own lock.
        return self.kind != _FOREIGN


@dataclass(frozen=True)
class Relation:
    """Something rows are read from: a table without its children, a leaf, or a whole tree.

    `blocks` counts the main fork inside the snapshot, `size` is bytes with TOAST, `estimated_rows`
    the planner's (None if never analyzed). `by_ranges` says whether ctid ranges can be used,
    `plannable` whether queries can be planned under the empty search path.
    """

    oid: int
    schema: str
    name: str
    only: bool
    by_ranges: bool
    blocks: int
    size: int
    estimated_rows: int | None
    relfilenode: int | None
    is_foreign: bool = False
    plannable: bool = True

    @property
    def source(self) -> Composable:
        return relation_name(self.schema, self.name, only=self.only)


@dataclass(frozen=True)
class TableSource:
    """A locked table inside the snapshot: all that an export reads. `columns` in table order."""

    table: ResolvedTable
    columns: tuple[str, ...]
    relations: tuple[Relation, ...]

    @property
    def blocks(self) -> int:
        return sum(relation.blocks for relation in self.relations)

    @property
    def size(self) -> int:
        return sum(relation.size for relation in self.relations)

    @property
    def estimated_rows(self) -> int | None:
        """None if a relation was never analyzed."""
        counts = [relation.estimated_rows for relation in self.relations]
        return None if None in counts else sum(filter(None, counts))


def relation_name(schema: str, name: str, *, only: bool) -> Composable:
    return (SQL("ONLY ") if only else SQL("")) + Identifier(schema, name)


# Compared as text: as a name, one that is too long would be cut and refer to another table.
LOOKUP = """
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relname::text = %(name)s AND CASE WHEN %(schema)s::text IS NULL
           THEN c.oid = to_regclass(quote_ident(%(name)s))
           ELSE n.nspname::text = %(schema)s END
"""
_RESOLVE = """
    SELECT c.oid, n.nspname, c.relname, c.relkind,
           pg_describe_object('pg_class'::regclass, c.oid, 0),
           has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'),
           has_table_privilege(c.oid, 'TRUNCATE'),
           c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid)
"""
# Roles and names come back quoted as a statement needs them.
_PRIVILEGES = """
    SELECT quote_ident(current_user), quote_ident(n.nspname),
           CASE c.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE '' END
               || format('%%I.%%I', n.nspname, c.relname),
           has_schema_privilege(n.oid, 'USAGE'),
           has_table_privilege(c.oid, %(privilege)s)
"""


def resolve_table(cursor: Cursor, requested: str) -> ResolvedTable:
    """Look a table up, a bare name on the connection's own search path.

    Raises:
        TableNotFound, InvalidParams (not a table), PermissionDenied (no SELECT).
    """
    name = parse_table_name(requested)
    cursor.execute(_RESOLVE + LOOKUP, {"schema": name.schema, "name": name.name})
    row = cursor.fetchone()
    if row is None:
        query = "SELECT current_database(), current_setting('search_path')"
        ((database, path),) = fetch_rows(cursor, query)
        where = f"on the search path ({path}) " if name.schema is None else ""
        raise errors.TableNotFound(
            f"The table {requested} was not found {where}in database {database}. Names are "
            "case-sensitive; write schema.name for another schema."
        )
    oid, schema, relname, kind, description, may_read, may_truncate, has_children = row
    if kind not in (ORDINARY, PARTITIONED, _FOREIGN):
        raise errors.InvalidParams(
            f"{requested} is not a table ({description}). Name the tables that its rows come from."
        )
    if not may_read:
        raise errors.PermissionDenied(
            f"This role may not read {requested}.", advice=missing_grants(cursor, name, "SELECT")
        )
    refusal: errors.BackupError | None = None
    if kind == _FOREIGN:
        refusal = errors.InvalidParams(f"{requested} is a foreign table, which cannot be locked.")
    elif has_children:
        refusal = errors.InvalidParams(
            f"{requested} has inheritance children, so it is not truncated; only its own rows are "
            "in its backup. Truncate such a table by hand."
        )
    elif not may_truncate:
        refusal = errors.PermissionDenied(
            f"This role may not truncate {requested}. The backup is not affected.",
            advice=missing_grants(cursor, name, "TRUNCATE"),
        )
    return ResolvedTable(oid, schema, relname, kind, requested, refusal)


def missing_grants(cursor: Cursor, name: TableName, privilege: str) -> str | None:
    """The GRANT statements that this role needs to have `privilege` on the table or sequence, and
    USAGE of its schema: "Run: …"; None if nothing is missing."""
    parameters = {"schema": name.schema, "name": name.name, "privilege": privilege}
    statements = []
    privileges = fetch_rows(cursor, _PRIVILEGES + LOOKUP, parameters)
    for role, schema, relation, may_use, has_privilege in privileges:
        if not may_use:
            statements.append(f"GRANT USAGE ON SCHEMA {schema} TO {role};")
        if not has_privilege:
            statements.append(f"GRANT {privilege} ON {relation} TO {role};")
    return f"Run: {' '.join(statements)}" if statements else None


_STATES = """
    SELECT oid, to_regclass(format('%%I.%%I', schema, name)) IS NOT DISTINCT FROM oid,
           row_security_active(oid)
      FROM unnest(%s::oid[], %s::text[], %s::text[]) t (oid, schema, name)
"""


def read_states(cursor: Cursor, tables: Sequence[Table]) -> dict[int, tuple[bool, bool]]:
    """By OID, whether a table still has its name, and whether row-level security would hide rows
    from this role."""
    columns = zip(*((table.oid, table.schema, table.name) for table in tables), strict=True)
    states = fetch_rows(cursor, _STATES, [list(column) for column in columns])
    return {oid: (has_name, is_guarded) for oid, has_name, is_guarded in states}


def truncate(cursor: Cursor, tables: Iterable[Table]) -> None:
    """Truncate the tables in one statement, in OID order, as they are locked. Triggers, and indexes
    that the server rebuilds, may rely on the role's own path."""
    in_oid_order = sorted(tables, key=lambda table: table.oid)
    targets = SQL(", ").join(table.target for table in in_oid_order)
    with own_search_path(cursor):
        cursor.execute(SQL("TRUNCATE TABLE {}").format(targets))


_LEAVES = SQL("""
    WITH RECURSIVE {partition_tree}
    SELECT tree.root, c.oid, n.nspname, c.relname, c.relkind = 'r' AND am.amname = 'heap',
           has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE'),
           row_security_active(c.oid),
           CASE WHEN c.relkind = 'r' THEN pg_relation_size(c.oid)
                     / current_setting('block_size')::bigint ELSE 0 END,
           CASE WHEN c.relkind = 'r' THEN pg_table_size(c.oid) ELSE 0 END,
           CASE WHEN c.reltuples >= 0 THEN c.reltuples::bigint END,
           pg_relation_filenode(c.oid), c.relkind = 'f'
      FROM tree
      JOIN pg_class c ON c.oid = tree.oid AND c.relkind <> 'p'
      JOIN pg_namespace n ON n.oid = c.relnamespace
      LEFT JOIN pg_am am ON am.oid = c.relam
     ORDER BY tree.root, c.oid
""")
_COLUMNS = """
    SELECT attrelid, array_agg(attname::text ORDER BY attnum)
      FROM pg_attribute
     WHERE attrelid = ANY(%(oids)s) AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
     GROUP BY attrelid
"""


def read_sources(cursor: Cursor, tables: Sequence[ResolvedTable]) -> dict[int, TableSource]:
    """The properties that an export needs of each locked table, by OID, as of the snapshot."""
    parameters = {"oids": [table.oid for table in tables]}
    columns = {oid: tuple(names) for oid, names in fetch_rows(cursor, _COLUMNS, parameters)}
    by_ranges = cursor.connection.server_version >= _RANGES_SINCE
    query = _LEAVES.format(partition_tree=partition_tree(cursor))
    leaves: dict[int, list[Relation]] = {table.oid: [] for table in tables}
    readable: dict[int, bool] = dict.fromkeys(leaves, True)
    for root, oid, schema, name, is_heap, may_read, guarded, *sizes in fetch_rows(
        cursor, query, parameters
    ):
        relation = Relation(oid, schema, name, True, is_heap and by_ranges, *sizes)
        leaves[root].append(relation)
        readable[root] &= root == oid or (may_read and not guarded)
    return {
        table.oid: TableSource(
            table,
            columns.get(table.oid, ()),
            _with_plannable(
                cursor,
                # The tree as a whole where only the parent grants access.
                leaves[table.oid] if readable[table.oid] else [_tree(table, leaves[table.oid])],
            ),
        )
        for table in tables
    }


def _tree(table: ResolvedTable, leaves: Sequence[Relation]) -> Relation:
    together = TableSource(table, (), tuple(leaves))
    return Relation(
        oid=table.oid,
        schema=table.schema,
        name=table.name,
        only=False,
        by_ranges=False,
        blocks=together.blocks,
        size=together.size,
        estimated_rows=together.estimated_rows,
        relfilenode=None,
        is_foreign=any(leaf.is_foreign for leaf in leaves),
    )


def _with_plannable(cursor: Cursor, relations: Sequence[Relation]) -> tuple[Relation, ...]:
    """The relations with `plannable` set. The planner evaluates the expressions of a table's
    indexes, extended statistics and constraints; a function in them may use unqualified names."""
    if _can_plan(cursor, relations):
        return tuple(relations)
    return tuple(
        relation
        if _can_plan(cursor, [relation])
        else replace(relation, by_ranges=False, plannable=False)
        for relation in relations
    )


def _can_plan(cursor: Cursor, relations: Sequence[Relation]) -> bool:
    explain = [
        SQL("EXPLAIN SELECT FROM {}").format(relation.source)
        for relation in relations
        if not relation.is_foreign  # Its plan would be made with the help of the other server.
    ]
    try:
        with savepoint(cursor):
            cursor.execute(SQL("; ").join([SQL("SELECT"), *explain]))
    except psycopg2.Error as error:
        if error.pgcode is None or error.pgcode[:2] in _SERVER_TROUBLE:
            raise
        return False
    return True


def relation_locks(cursor: Cursor) -> set[tuple[int, str]]:
    """(OID, lock mode) of every relation lock that this session holds."""
    query = (
        "SELECT relation, mode FROM pg_locks WHERE locktype = 'relation' AND granted"
        " AND pid = pg_backend_pid()"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    return set(fetch_rows(cursor, query))
