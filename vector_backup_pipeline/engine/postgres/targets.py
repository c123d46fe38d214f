"""The tables that a restore writes to, as they are before it does, and keeping writers out."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from collections.abc import Sequence as Ordered
from dataclasses import dataclass
from typing import Any

import psycopg2
from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Composable, Identifier, Literal

from vector_backup_pipeline.engine.errors import InvalidParams, PermissionDenied
from vector_backup_pipeline.engine.postgres.session import own_search_path
from vector_backup_pipeline.engine.postgres.tables import ResolvedTable, relation_name
from vector_backup_pipeline.engine.postgres.triggers import Trigger, read_triggers
from vector_backup_pipeline.engine.table_definition import Sequence

_log = logging.getLogger(__name__)

_ORDINARY, _PARTITIONED = "r", "p"
_KINDS = {
    "v": "a view",
    "m": "a materialized view",
    "f": "a foreign table",
    "S": "a sequence",
    "i": "an index",
    "I": "an index",
    "c": "a composite type",
}
_JSON_TYPES = {"json", "jsonb"}
# Below deadlock_timeout, which is a second unless somebody has changed it.
_WHILE_HOLDING_SECONDS = 0.3
_BETWEEN_TRIES_SECONDS = (0.05, 0.3)


@dataclass(frozen=True)
class TargetColumn:
    """`modifier` is atttypmod: of a vector its dimensions, -1 for any. `is_always_identity`: values
    can be inserted, but never updated."""

    name: str
    type_name: str
    modifier: int
    not_null: bool
    is_generated: bool
    is_always_identity: bool
    has_default: bool

    @property
    def is_json(self) -> bool:
        return self.type_name in _JSON_TYPES


@dataclass(frozen=True)
class ExistingTable:
    """A table that is there already.

    `unique_keys` are of columns that hold no NULL, the primary key first; `referenced_by` names
    the tables whose foreign keys lead here, `references` those where its own lead; `sequences` are
    those that its columns own, by column.
    """

    oid: int
    schema: str
    name: str
    kind: str
    columns: tuple[TargetColumn, ...]
    unique_keys: tuple[tuple[str, ...], ...]
    triggers: tuple[Trigger, ...]
    rules: tuple[str, ...]
    referenced_by: tuple[tuple[str, str], ...]
    references: tuple[tuple[str, str], ...]
    sequences: Mapping[str, tuple[str, str]]

    @property
    def place(self) -> tuple[str, str]:
        return self.schema, self.name

    @property
    def label(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def target(self) -> Composable:
        """How LOCK, TRUNCATE and SELECT name it: its own rows, or those of all its partitions."""
        return relation_name(self.schema, self.name, only=self.kind != _PARTITIONED)

    def column(self, name: str) -> TargetColumn | None:
        return next((column for column in self.columns if column.name == name), None)


_TABLE = """
    SELECT c.oid, c.relkind, row_security_active(c.oid)
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname::text = %s AND c.relname::text = %s
"""
_COLUMNS = """
    SELECT a.attname::text, t.typname::text, a.atttypmod, a.attnotnull,
           a.attgenerated <> '', a.attidentity = 'a', a.atthasdef OR a.attidentity <> ''
      FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
     WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped
     ORDER BY a.attnum
"""
# Such a key keeps a second restore from doubling the rows, and ON CONFLICT can go by it.
_UNIQUE_KEYS = """
    SELECT array_agg(a.attname::text ORDER BY k.place)
      FROM pg_index x
     CROSS JOIN unnest(x.indkey::int2[]) WITH ORDINALITY k(attnum, place)
      JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = k.attnum
     WHERE x.indrelid = %s AND x.indisunique AND x.indimmediate AND x.indpred IS NULL
       AND x.indexprs IS NULL AND x.indisvalid AND x.indisready AND x.indislive
       AND k.place <= x.indnkeyatts
     GROUP BY x.indexrelid, x.indisprimary
    HAVING bool_and(a.attnotnull)
     ORDER BY NOT x.indisprimary, x.indexrelid
"""
_RULES = "SELECT rulename::text FROM pg_rewrite WHERE ev_class = %s AND ev_type IN ('2', '3')"
# A partition's copy of its parent's key says nothing new; the row of a key to this partition's root
# does, since TRUNCATE of the partition alone is refused for it.
_REFERENCED_BY = """
    SELECT DISTINCT n.nspname::text, c.relname::text
      FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
      JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE k.confrelid = %(oid)s AND k.conrelid <> %(oid)s AND k.contype = 'f'
       AND NOT EXISTS (SELECT FROM pg_constraint above
                        WHERE above.oid = k.conparentid AND above.conrelid <> k.conrelid)
     ORDER BY 1, 2
"""
_REFERENCES = """
    SELECT DISTINCT n.nspname::text, c.relname::text
      FROM pg_constraint k JOIN pg_class c ON c.oid = k.confrelid
      JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE k.conrelid = %(oid)s AND k.confrelid <> %(oid)s AND k.contype = 'f'
     ORDER BY 1, 2
"""
_PARTITIONS = """
    SELECT n.nspname::text, c.relname::text
      FROM pg_partition_tree(%(oid)s::oid) p JOIN pg_class c ON c.oid = p.relid
      JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.oid <> %(oid)s ORDER BY c.oid
"""
_SEQUENCES = """
    SELECT a.attname::text, n.nspname::text, c.relname::text
      FROM pg_depend d JOIN pg_class c ON c.oid = d.objid AND c.relkind = 'S'
      JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
     WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
       AND d.refobjid = %s AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')
     ORDER BY 1, 2
"""


def find_existing(cursor: Cursor, schema: str, name: str) -> ExistingTable | None:
    """The table of that place, None if nothing is there.

    Raises:
        InvalidParams: what is there can't take rows.
        PermissionDenied: row security would stand between this role and the rows.
    """
    cursor.execute(_TABLE, (schema, name))
    row = cursor.fetchone()
    if row is None:
        return None
    oid, kind, is_guarded = row
    if kind not in (_ORDINARY, _PARTITIONED):
        raise InvalidParams(
            f"{schema}.{name} in the target is {_KINDS.get(kind, 'no table')}, not a table. "
            "Restore under another name with rename."
        )
    if is_guarded:
        raise PermissionDenied(
            f"Row-level security of {schema}.{name} applies to this role, so its rows could "
            "neither be loaded nor proved. Restore as the table's owner (without FORCE ROW LEVEL "
            "SECURITY) or as a role with BYPASSRLS."
        )
    return ExistingTable(
        oid=oid,
        schema=schema,
        name=name,
        kind=kind,
        columns=tuple(TargetColumn(*each) for each in _ask(cursor, _COLUMNS, (oid,))),
        unique_keys=tuple(tuple(names) for (names,) in _ask(cursor, _UNIQUE_KEYS, (oid,))),
        triggers=read_triggers(cursor, oid),
        rules=tuple(each for (each,) in _ask(cursor, _RULES, (oid,))),
        referenced_by=_names(_ask(cursor, _REFERENCED_BY, {"oid": oid})),
        references=_names(_ask(cursor, _REFERENCES, {"oid": oid})),
        sequences={
            column: (owned_in, owned)
            for column, owned_in, owned in _ask(cursor, _SEQUENCES, (oid,))
        },
    )


def lock_targets(
    cursor: Cursor,
    tables: Iterable[ExistingTable],
    from_readers: Collection[int],
    lock_timeout: float,
) -> None:
    """Keep writers out until the transaction ends, of the OIDs in `from_readers` readers too.

    In OID order, as a backup locks; and at once in the mode that is needed, since a lock that grows
    later invites deadlocks. Only the first is waited for in the queue: while one is held, another
    is waited for more briefly than PostgreSQL waits before it looks for a deadlock, then all are
    let go and asked for again. So no writer that locks in another order is ever the victim.

    Raises:
        psycopg2.errors.LockNotAvailable: not all were had within `lock_timeout` seconds.
    """
    in_order = sorted(tables, key=lambda each: each.oid)
    until = time.monotonic() + lock_timeout
    is_first = True
    while not _locked_at_once(cursor, in_order, from_readers, until):
        if is_first:
            _log.warning("Waiting for locks that other sessions hold on the target's tables")
        is_first = False
        time.sleep(random.uniform(*_BETWEEN_TRIES_SECONDS))  # noqa: S311 - not to meet again
    _wait_for_locks(cursor, lock_timeout)


def _locked_at_once(
    cursor: Cursor,
    in_order: Ordered[ExistingTable],
    from_readers: Collection[int],
    until: float,
) -> bool:
    """Whether all were had; raises when the time is over."""
    cursor.execute("SAVEPOINT locking")
    is_first = True
    for table in in_order:
        mode = SQL("ACCESS EXCLUSIVE" if table.oid in from_readers else "SHARE ROW EXCLUSIVE")
        for place in _locked_with(cursor, table):
            left = until - time.monotonic()
            _wait_for_locks(cursor, left if is_first else min(left, _WHILE_HOLDING_SECONDS))
            try:
                cursor.execute(SQL("LOCK TABLE ONLY {} IN {} MODE").format(place, mode))
            except psycopg2.errors.LockNotAvailable:
                if is_first or time.monotonic() >= until:
                    raise
                cursor.execute("ROLLBACK TO SAVEPOINT locking")
                cursor.execute("RELEASE SAVEPOINT locking")
                return False
            is_first = False
    cursor.execute("RELEASE SAVEPOINT locking")
    return True


def _locked_with(cursor: Cursor, table: ExistingTable) -> Iterator[Identifier]:
    """The table, then its partitions: LOCK would take them along, but wait for each as long as for
    one. With the table locked, no partition comes or goes."""
    yield Identifier(table.schema, table.name)
    if table.kind == _PARTITIONED:
        cursor.execute(_PARTITIONS, {"oid": table.oid})
        for schema, name in cursor.fetchall():
            yield Identifier(schema, name)


def _wait_for_locks(cursor: Cursor, seconds: float) -> None:
    cursor.execute("SET LOCAL lock_timeout = %s", (f"{max(1, round(seconds * 1000))}ms",))


def count_rows(cursor: Cursor, source: Composable, at_most: int | None = None) -> int:
    """The number of rows of `source`; `at_most` limits how many are read.

    The planner evaluates the expressions of the table's indexes, hence the search path.
    """
    query = SQL("SELECT pg_catalog.count(*) FROM {}").format(source)
    if at_most is not None:
        query = SQL("SELECT pg_catalog.count(*) FROM (SELECT FROM {} LIMIT {}) few").format(
            source, Literal(at_most)
        )
    with own_search_path(cursor):
        cursor.execute(query)
        (rows,) = cursor.fetchone() or (0,)
    return int(rows)


def truncate_targets(cursor: Cursor, tables: Ordered[ExistingTable]) -> None:
    in_oid_order = sorted(tables, key=lambda each: each.oid)
    targets = SQL(", ").join(table.target for table in in_oid_order)
    with own_search_path(cursor):
        cursor.execute(SQL("TRUNCATE TABLE {}").format(targets))


def current_role(cursor: Cursor) -> str:
    cursor.execute("SELECT current_user::text")
    ((role,),) = cursor.fetchall()
    return str(role)


def place_of_bare_name(cursor: Cursor, name: str) -> tuple[str, str] | None:
    """Where the connection's own search path leads; to be asked before it is emptied."""
    cursor.execute(
        "SELECT n.nspname::text, c.relname::text FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.oid = to_regclass(quote_ident(%(name)s)) AND c.relname::text = %(name)s",
        {"name": name},
    )
    row = cursor.fetchone()
    return (row[0], row[1]) if row else None


def table_identity(cursor: Cursor, schema: str, name: str) -> ResolvedTable:
    """A table that was just made, as the readers of rows take it."""
    cursor.execute(_TABLE, (schema, name))
    ((oid, kind, _),) = cursor.fetchall()
    return ResolvedTable(f"{schema}.{name}", oid, schema, name, kind, None)


_SEQUENCE_STATE = SQL("SELECT last_value, is_called, {} FROM {}")
_MAY_MOVE = "SELECT has_sequence_privilege(%s, 'SELECT') AND has_sequence_privilege(%s, 'UPDATE')"
_INCREMENT = SQL("(SELECT seqincrement FROM pg_sequence WHERE seqrelid = %s::regclass)")


def move_sequence_forward(
    cursor: Cursor, place: tuple[str, str], last_value: int, *, is_called: bool
) -> bool:
    """Set a sequence to the backup's value if it is behind, so that no value is given out twice.

    `setval` outlives a rollback; but forward it only leaves a gap. Returns False where the role may
    not do it.
    """
    sequence = Identifier(*place)
    name = sequence.as_string(cursor)
    cursor.execute(_MAY_MOVE, (name, name))
    if cursor.fetchone() != (True,):
        return False
    cursor.execute(_SEQUENCE_STATE.format(_INCREMENT, sequence), (name,))
    ((current, current_is_called, increment),) = cursor.fetchall()
    step = 1 if increment > 0 else -1
    behind = (current * step, current_is_called) < (last_value * step, is_called)
    if behind:
        cursor.execute("SELECT setval(%s::regclass, %s, %s)", (name, last_value, is_called))
    return True


_IS_NUMBER = """
    SELECT a.atttypid = ANY ('{int2,int4,int8,numeric}'::regtype[])
      FROM pg_attribute a WHERE a.attrelid = %s::regclass AND a.attname::text = %s
"""
_EXTREME = SQL(
    "SELECT {extreme}({column}) FROM {table} WHERE {column} BETWEEN {lowest} AND {highest}"
)


def last_value_in_column(cursor: Cursor, table: tuple[str, str], sequence: Sequence) -> int | None:
    """Where `sequence` must stand for the rows of `table`, if its own value could not be read: at
    the last value in its column. None if the column has no value that is the sequence's."""
    name = Identifier(*table)
    cursor.execute(_IS_NUMBER, (name.as_string(cursor), sequence.column))
    if cursor.fetchone() != (True,):
        return None
    query = _EXTREME.format(
        extreme=SQL("pg_catalog.max" if sequence.increment > 0 else "pg_catalog.min"),
        column=Identifier(sequence.column),
        table=name,
        lowest=Literal(sequence.minimum),
        highest=Literal(sequence.maximum),
    )
    with own_search_path(cursor):
        cursor.execute(query)
        ((value,),) = cursor.fetchall()
    return None if value is None else int(value)


def _ask(cursor: Cursor, query: str, parameters: Any) -> list[tuple[Any, ...]]:
    cursor.execute(query, parameters)
    return cursor.fetchall()


def _names(found: list[tuple[Any, ...]]) -> tuple[tuple[str, str], ...]:
    return tuple((str(schema), str(name)) for schema, name in found)
