"""The triggers of a table and its partitions: which ones a restore would fire, and loading without
them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Identifier

# Bits of pg_trigger.tgtype (catalog/pg_trigger.h).
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


def read_triggers(cursor: Cursor, oid: int) -> tuple[Trigger, ...]:
    """The triggers of a table, then those of its partitions; not those of constraints."""
    cursor.execute(_TRIGGERS, {"oid": oid})
    return tuple(
        Trigger(schema, table, name, mode, enabled, frozenset(events))
        for schema, table, name, mode, enabled, events in cursor.fetchall()
    )


def disable_triggers(cursor: Cursor, triggers: Sequence[Trigger]) -> None:
    """Takes SHARE ROW EXCLUSIVE on their tables, and needs to own them."""
    for trigger in triggers:
        _alter(cursor, trigger, "D")


def reset_triggers(cursor: Cursor, triggers: Sequence[Trigger]) -> None:
    """Set the mode that each had when it was read. `triggers` holds those of partitions after their
    parents', because ALTER TABLE changes them along with their parents'.

    PostgreSQL refuses it while deferred triggers are pending.
    """
    for trigger in triggers:
        _alter(cursor, trigger, trigger.mode)


def _alter(cursor: Cursor, trigger: Trigger, mode: str) -> None:
    cursor.execute(
        SQL("ALTER TABLE {} " + _ENABLE[mode] + " {}").format(
            Identifier(trigger.schema, trigger.table), Identifier(trigger.name)
        )
    )
