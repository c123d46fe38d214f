"""pg_sequence: the sequences that tables own or draw from, and where they stand."""

from __future__ import annotations

from collections.abc import Iterable

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.postgres.definitions.reading import (
    Row,
    grouped,
    rows,
    side_read,
)
from vector_backup_pipeline.engine.table_definition import QualifiedName, Sequence

# Owned ('i' identity, 'a' serial: pg_depend points from the sequence to the column), or only used
# in a default (from the default to the sequence; a name hidden in text is in no catalog).
_SEQUENCES = """
WITH used AS (
    SELECT d.refobjid AS relid, d.refobjsubid AS attnum, d.objid AS oid,
           CASE d.deptype WHEN 'i' THEN 'identity' ELSE 'serial' END AS role
      FROM pg_catalog.pg_depend d
     WHERE d.classid = 'pg_catalog.pg_class'::regclass
       AND d.refclassid = 'pg_catalog.pg_class'::regclass
       AND d.refobjid = ANY(%(oids)s::oid[]) AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')
    UNION
    SELECT f.adrelid, f.adnum, d.refobjid, 'shared'
      FROM pg_catalog.pg_attrdef f
      JOIN pg_catalog.pg_depend d
        ON d.classid = 'pg_catalog.pg_attrdef'::regclass AND d.objid = f.oid
       AND d.refclassid = 'pg_catalog.pg_class'::regclass
     WHERE f.adrelid = ANY(%(oids)s::oid[])
       AND NOT EXISTS (
           SELECT FROM pg_catalog.pg_depend o
            WHERE o.classid = 'pg_catalog.pg_class'::regclass AND o.objid = d.refobjid
              AND o.refclassid = 'pg_catalog.pg_class'::regclass AND o.deptype IN ('a', 'i')
              AND o.refobjid = f.adrelid AND o.refobjsubid > 0)
)
SELECT used.relid, used.role, c.oid, n.nspname AS schema_name, c.relname AS name,
       a.attname AS column_name, pg_catalog.format_type(s.seqtypid, NULL) AS data_type,
       s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache, s.seqcycle,
       c.relpersistence = 'u' AS unlogged, c.relacl::text AS acl,
       pg_catalog.has_sequence_privilege(c.oid, 'SELECT')
           AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') AS readable
  FROM used
  JOIN pg_catalog.pg_class c ON c.oid = used.oid AND c.relkind = 'S'
  JOIN pg_catalog.pg_sequence s ON s.seqrelid = c.oid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_attribute a ON a.attrelid = used.relid AND a.attnum = used.attnum
 ORDER BY used.relid, used.attnum, n.nspname, c.relname, used.role
"""

# pg_sequence_last_value() takes ROW EXCLUSIVE on the sequence until the transaction's end and
# says nothing about one that was set but not called; reading the relation takes ACCESS SHARE.
_VALUE = sql.SQL("SELECT {oid} AS oid, last_value, is_called FROM {sequence}")

Value = tuple[int | None, bool | None]
_UNREAD: Value = (None, None)


class Sequences:
    """By table; `oids` are all of them, for the dependencies."""

    def __init__(
        self, found: list[Row], values: dict[int, Value], tables: dict[int, QualifiedName]
    ) -> None:
        self.oids = grouped(found, lambda row: int(row["relid"]), lambda row: int(row["oid"]))
        self.grants = grouped(
            (row for row in found if row["acl"]),
            lambda row: int(row["relid"]),
            lambda row: str(row["schema_name"] + "." + row["name"]),
        )
        self.by_table = grouped(
            found,
            lambda row: int(row["relid"]),
            lambda row: _sequence(row, values.get(row["oid"], _UNREAD), tables[row["relid"]]),
        )


def read_sequences(cursor: Cursor, names: dict[int, QualifiedName]) -> Sequences:
    found = rows(cursor, _SEQUENCES, oids=list(names))
    readable = {row["oid"]: row for row in found if row["readable"]}
    return Sequences(found, _read_values(cursor, readable.values()), names)


def _read_values(cursor: Cursor, sequences: Iterable[Row]) -> dict[int, Value]:
    """All in one go; one by one if one of them can't be had."""
    every = list(sequences)
    if not every:
        return {}
    together = _try_values(cursor, every)
    if together is not None:
        return together
    values: dict[int, Value] = {}
    for each in every:
        values |= _try_values(cursor, [each]) or {}
    return values


def _try_values(cursor: Cursor, sequences: list[Row]) -> dict[int, Value] | None:
    query = sql.SQL(" UNION ALL ").join(
        _VALUE.format(
            oid=sql.Literal(each["oid"]),
            sequence=sql.Identifier(each["schema_name"], each["name"]),
        )
        for each in sequences
    )
    try:
        with side_read(cursor):
            found = rows(cursor, query)
    except (
        psycopg2.errors.LockNotAvailable,
        psycopg2.errors.InsufficientPrivilege,
        psycopg2.errors.UndefinedTable,
        # An unlogged sequence can't be read on a standby.
        psycopg2.errors.FeatureNotSupported,
        psycopg2.errors.ObjectNotInPrerequisiteState,
    ):
        return None
    return {row["oid"]: (row["last_value"], row["is_called"]) for row in found}


def _sequence(row: Row, value: Value, table: QualifiedName) -> Sequence:
    return Sequence(
        schema_name=row["schema_name"],
        name=row["name"],
        role=row["role"],
        table=table,
        column=row["column_name"],
        data_type=row["data_type"],
        start=row["seqstart"],
        increment=row["seqincrement"],
        minimum=row["seqmin"],
        maximum=row["seqmax"],
        cache=row["seqcache"],
        cycle=row["seqcycle"],
        unlogged=row["unlogged"],
        last_value=value[0],
        is_called=value[1],
    )
