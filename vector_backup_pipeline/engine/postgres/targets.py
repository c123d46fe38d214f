"""The existing tables that a restore writes to: what they are, locks, truncation, triggers and
sequences.
"""

import logging
import random
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import psycopg2
from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Composable, Identifier, Literal

from vector_backup_pipeline.engine import table_definition
from vector_backup_pipeline.engine.errors import InvalidParams, PermissionDenied
from vector_backup_pipeline.engine.postgres.session import (
    fetch_rows,
    fetch_value,
    own_search_path,
    savepoint,
)
from vector_backup_pipeline.engine.postgres.tables import (
    LOOKUP,
    ORDINARY,
    PARTITIONED,
    ResolvedTable,
    Table,
    truncate,
)

_log = logging.getLogger(__name__)

# Shorter than deadlock_timeout, which is a second by default.
_LOCK_WAIT_SECONDS = 0.3
_RETRY_SECONDS = (0.05, 0.3)


@dataclass(frozen=True)
class TargetColumn:
    """`modifier` is atttypmod: of a vector its dimensions, -1 for any."""

    name: str
    type_name: str
    modifier: int
    not_null: bool
    is_generated: bool


@dataclass(frozen=True)
class Trigger:
    """`mode` is pg_trigger.tgenabled, `enabled` whether it fires in this session; `events` are of
    INSERT, UPDATE and TRUNCATE."""

    schema: str
    table: str
    name: str
    mode: str
    enabled: bool
    events: frozenset[str]


@dataclass(frozen=True)
class ExistingTable(Table):
    """An existing table.

    `unique_keys` are of NOT NULL columns, the primary key first; `references` are the tables that
    its foreign keys reference; `sequences` are those that its columns own, by column.
    """

    columns: tuple[TargetColumn, ...]
    unique_keys: tuple[tuple[str, ...], ...]
    triggers: tuple[Trigger, ...]
    references: tuple[tuple[str, str], ...]
    sequences: Mapping[str, tuple[str, str]]

    @property
    def full_name(self) -> tuple[str, str]:
        return self.schema, self.name

    @property
    def label(self) -> str:
        return f"{self.schema}.{self.name}"

    def column(self, name: str) -> TargetColumn | None:
        return next((column for column in self.columns if column.name == name), None)


_TABLE = "SELECT c.oid, c.relkind, row_security_active(c.oid)" + LOOKUP
_COLUMNS = """
    SELECT a.attname::text, t.typname::text, a.atttypmod, a.attnotnull, a.attgenerated <> ''
      FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
     WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped
     ORDER BY a.attnum
"""
# Such a key prevents duplicate rows after a second restore, and ON CONFLICT can use it.
_UNIQUE_KEYS = """
    SELECT array_agg(a.attname::text ORDER BY k.position)
      FROM pg_index x
     CROSS JOIN unnest(x.indkey::int2[]) WITH ORDINALITY k(attnum, position)
      JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = k.attnum
     WHERE x.indrelid = %s AND x.indisunique AND x.indimmediate AND x.indpred IS NULL
       AND x.indexprs IS NULL AND x.indisvalid AND x.indisready AND x.indislive
       AND k.position <= x.indnkeyatts
     GROUP BY x.indexrelid, x.indisprimary
    HAVING bool_and(a.attnotnull)
     ORDER BY NOT x.indisprimary, x.indexrelid
"""
_REFERENCES = """
    SELECT DISTINCT n.nspname::text, c.relname::text
      FROM pg_constraint k JOIN pg_class c ON c.oid = k.confrelid
      JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE k.conrelid = %(oid)s AND k.confrelid <> %(oid)s AND k.contype = 'f'
     ORDER BY 1, 2
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
# Of a table, then of its partitions; not those of constraints. tgtype: catalog/pg_trigger.h.
_TRIGGERS = """
    SELECT n.nspname::text, c.relname::text, t.tgname::text, t.tgenabled::text,
           t.tgenabled IN ('A', CASE current_setting('session_replication_role')
                                WHEN 'replica' THEN 'R' ELSE 'O' END),
           array_remove(ARRAY[CASE WHEN t.tgtype & 4 > 0 THEN 'INSERT' END,
                              CASE WHEN t.tgtype & 16 > 0 THEN 'UPDATE' END,
                              CASE WHEN t.tgtype & 32 > 0 THEN 'TRUNCATE' END], NULL)
      FROM (SELECT %(oid)s::oid AS relid, 0 AS level
             UNION SELECT relid::oid, level FROM pg_partition_tree(%(oid)s::oid)) tree
      JOIN pg_trigger t ON t.tgrelid = tree.relid AND NOT t.tgisinternal
      JOIN pg_class c ON c.oid = t.tgrelid
      JOIN pg_namespace n ON n.oid = c.relnamespace
     ORDER BY tree.level, t.tgrelid, t.tgname
"""
_ENABLE = {
    "O": "ENABLE TRIGGER",
    "A": "ENABLE ALWAYS TRIGGER",
    "R": "ENABLE REPLICA TRIGGER",
    "D": "DISABLE TRIGGER",
}


def find_existing(cursor: Cursor, schema: str, name: str) -> ExistingTable | None:
    """The table of that name, or None.

    Raises:
        InvalidParams: a relation of that name is not a table.
        PermissionDenied: row security would hide rows from this role.
    """
    tables = fetch_rows(cursor, _TABLE, {"schema": schema, "name": name})
    if not tables:
        return None
    ((oid, kind, is_guarded),) = tables
    if kind not in (ORDINARY, PARTITIONED):
        raise InvalidParams(
            f"{schema}.{name} exists in the target and is not a table. Restore under another name "
            "with rename."
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
        columns=tuple(TargetColumn(*row) for row in fetch_rows(cursor, _COLUMNS, (oid,))),
        unique_keys=tuple(tuple(names) for (names,) in fetch_rows(cursor, _UNIQUE_KEYS, (oid,))),
        triggers=tuple(
            Trigger(schema, table, name, mode, enabled, frozenset(events))
            for schema, table, name, mode, enabled, events in fetch_rows(
                cursor, _TRIGGERS, {"oid": oid}
            )
        ),
        references=tuple(fetch_rows(cursor, _REFERENCES, {"oid": oid})),
        sequences={
            column: (owned_in, owned)
            for column, owned_in, owned in fetch_rows(cursor, _SEQUENCES, (oid,))
        },
    )


def set_triggers(cursor: Cursor, triggers: Sequence[Trigger], mode: str | None = None) -> None:
    """Set the triggers to `mode`, or back to the mode that each had when it was read. Those of
    partitions come after their parents', because ALTER TABLE changes them along with these.

    Takes SHARE ROW EXCLUSIVE on their tables, and needs to own them. PostgreSQL refuses it while
    deferred triggers are pending.
    """
    for trigger in triggers:
        alter = SQL("ALTER TABLE {} " + _ENABLE[mode or trigger.mode] + " {}")
        table = Identifier(trigger.schema, trigger.table)
        cursor.execute(alter.format(table, Identifier(trigger.name)))


def lock_targets(
    cursor: Cursor,
    tables: Sequence[ExistingTable],
    from_readers: Collection[int],
    lock_timeout: float,
) -> None:
    """Lock out writers until the transaction ends, and readers of the OIDs in `from_readers`.

    In OID order, as a backup locks, and at once in the mode that is needed: a lock that grows later
    invites deadlocks. After a short wait all locks are released and requested again, so that no
    writer that locks in another order becomes a deadlock's victim. Raises psycopg2's
    `LockNotAvailable` if not all were granted within `lock_timeout` seconds.
    """
    deadline = time.monotonic() + lock_timeout
    while True:
        try:
            with savepoint(cursor):
                for table in sorted(tables, key=lambda table: table.oid):
                    _limit_lock_wait(cursor, min(_LOCK_WAIT_SECONDS, deadline - time.monotonic()))
                    is_exclusive = table.oid in from_readers
                    mode = SQL("ACCESS EXCLUSIVE" if is_exclusive else "SHARE ROW EXCLUSIVE")
                    cursor.execute(SQL("LOCK TABLE {} IN {} MODE").format(table.target, mode))
            break
        except psycopg2.errors.LockNotAvailable:
            if time.monotonic() >= deadline:
                raise
        _log.info("Waiting for locks that other sessions hold on the target's tables")
        time.sleep(random.uniform(*_RETRY_SECONDS))  # noqa: S311 - so that two restores diverge
    _limit_lock_wait(cursor, lock_timeout)


def _limit_lock_wait(cursor: Cursor, seconds: float) -> None:
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
        return int(fetch_value(cursor, query))


def truncate_targets(cursor: Cursor, tables: Sequence[ExistingTable]) -> None:
    """Raises `InvalidParams` if another table references one of them."""
    try:
        truncate(cursor, tables)
    except psycopg2.errors.FeatureNotSupported as error:
        raise InvalidParams(
            f"Could not truncate: {error.diag.message_primary}. {error.diag.message_detail} "
            "Restore both tables, or use on_conflict."
        ) from error


def current_role(cursor: Cursor) -> str:
    return str(fetch_value(cursor, "SELECT current_user::text"))


def resolve_bare_name(cursor: Cursor, name: str) -> tuple[str, str] | None:
    """The table that the connection's own search path finds; to be called before it is emptied."""
    query = "SELECT n.nspname::text, c.relname::text" + LOOKUP
    names = fetch_rows(cursor, query, {"schema": None, "name": name})
    return names[0] if names else None


def table_identity(cursor: Cursor, schema: str, name: str) -> ResolvedTable:
    """A table that was just made, as the readers of rows take it."""
    ((oid, kind, _),) = fetch_rows(cursor, _TABLE, {"schema": schema, "name": name})
    return ResolvedTable(oid, schema, name, kind, f"{schema}.{name}", None)


_MAY_MOVE = "SELECT has_sequence_privilege(%s, 'SELECT') AND has_sequence_privilege(%s, 'UPDATE')"
_SEQUENCE_STATE = SQL("""
    SELECT v.last_value, v.is_called, s.seqincrement
      FROM {} v JOIN pg_sequence s ON s.seqrelid = v.tableoid
""")


def move_sequence_forward(
    cursor: Cursor, name: tuple[str, str], last_value: int, *, is_called: bool
) -> bool:
    """Set a sequence to the backup's value if it is behind, so that no value is used twice.

    `setval` survives a rollback; but forward it only leaves a gap. Returns False where the role may
    not do it.
    """
    sequence = Identifier(*name)
    text = sequence.as_string(cursor)
    if not fetch_value(cursor, _MAY_MOVE, (text, text)):
        return False
    state = fetch_rows(cursor, _SEQUENCE_STATE.format(sequence))
    ((current, current_is_called, increment),) = state
    step = 1 if increment > 0 else -1
    behind = (current * step, current_is_called) < (last_value * step, is_called)
    if behind:
        cursor.execute("SELECT setval(%s::regclass, %s, %s)", (text, last_value, is_called))
    return True


_IS_NUMBER = """
    SELECT a.atttypid = ANY ('{int2,int4,int8,numeric}'::regtype[])
      FROM pg_attribute a WHERE a.attrelid = %s::regclass AND a.attname::text = %s
"""
_EXTREME = SQL(
    "SELECT {extreme}({column}) FROM {table} WHERE {column} BETWEEN {lowest} AND {highest}"
)


def known_value(
    cursor: Cursor, table: tuple[str, str], sequence: table_definition.Sequence
) -> tuple[int | None, bool]:
    """`last_value` and `is_called` of the sequence in the backup. If they could not be read, the
    last value in its column of `table`; None if the column has no value from the sequence."""
    if sequence.last_value is not None:
        return sequence.last_value, bool(sequence.is_called)
    name = Identifier(*table)
    if not fetch_value(cursor, _IS_NUMBER, (name.as_string(cursor), sequence.column)):
        return None, True
    query = _EXTREME.format(
        extreme=SQL("pg_catalog.max" if sequence.increment > 0 else "pg_catalog.min"),
        column=Identifier(sequence.column),
        table=name,
        lowest=Literal(sequence.minimum),
        highest=Literal(sequence.maximum),
    )
    with own_search_path(cursor):
        value = fetch_value(cursor, query)
    return (None if value is None else int(value)), True
