"""Sequences that tables own or draw from (pg_sequence), and their values."""

import contextlib

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.postgres.definitions.reading import Row, rows, side_read
from vector_backup_pipeline.engine.postgres.definitions.tables import SEQUENCE_OPTIONS
from vector_backup_pipeline.engine.table_definition import Kind, QualifiedName, Sequence, Statement

# Owned ('i' identity, 'a' serial: pg_depend points from the sequence to the column), or only used
# in a default (from the default to the sequence; a name inside a string is in no catalog).
_SEQUENCES = sql.SQL("""
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
       tn.nspname AS table_schema, t.relname AS table_name, a.attname AS column_name,
       s.seqincrement AS increment, s.seqmin AS minimum, s.seqmax AS maximum,
       pg_catalog.format('CREATE %%sSEQUENCE %%I.%%I AS %%s %%s',
           CASE c.relpersistence WHEN 'u' THEN 'UNLOGGED ' END, n.nspname, c.relname,
           pg_catalog.format_type(s.seqtypid, NULL), {options}) AS create_sql,
       pg_catalog.format('ALTER SEQUENCE %%I.%%I OWNED BY %%I.%%I.%%I', n.nspname, c.relname,
           tn.nspname, t.relname, a.attname) AS owner_sql,
       pg_catalog.has_sequence_privilege(c.oid, 'SELECT')
           AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') AS readable
  FROM used
  JOIN pg_catalog.pg_class c ON c.oid = used.oid AND c.relkind = 'S'
  JOIN pg_catalog.pg_sequence s ON s.seqrelid = c.oid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_class t ON t.oid = used.relid
  JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace
  JOIN pg_catalog.pg_attribute a ON a.attrelid = used.relid AND a.attnum = used.attnum
 ORDER BY used.role = 'shared', used.relid, used.attnum, n.nspname, c.relname
""").format(options=SEQUENCE_OPTIONS)

# pg_sequence_last_value() locks the sequence until the transaction's end and does not tell whether
# the value was used; reading the relation takes ACCESS SHARE.
_VALUE = sql.SQL("SELECT last_value, is_called FROM {}")

_UNREADABLE = (
    psycopg2.errors.LockNotAvailable,
    psycopg2.errors.InsufficientPrivilege,
    psycopg2.errors.UndefinedTable,
    # An unlogged sequence can't be read on a standby.
    psycopg2.errors.FeatureNotSupported,
    psycopg2.errors.ObjectNotInPrerequisiteState,
)


class UsedSequence:
    """A sequence as one table uses it, with its statements."""

    def __init__(self, row: Row, value: Row) -> None:
        self.oid: int = row["oid"]
        self.table: int = row["relid"]
        self.definition = Sequence(
            schema_name=row["schema_name"],
            name=row["name"],
            role=row["role"],
            table=QualifiedName(schema_name=row["table_schema"], name=row["table_name"]),
            column=row["column_name"],
            increment=row["increment"],
            minimum=row["minimum"],
            maximum=row["maximum"],
            last_value=value.get("last_value"),
            is_called=value.get("is_called"),
        )
        self.statements: list[Statement] = []
        name = self.definition.qualified_name
        # An identity's sequence is created with its column.
        if row["role"] != "identity":
            self.statements.append(Statement(Kind.SEQUENCE, *name, row["create_sql"]))
        if row["role"] == "serial":
            self.statements.append(Statement(Kind.SEQUENCE_OWNER, *name, row["owner_sql"]))


def read_sequences(cursor: Cursor, oids: list[int]) -> list[UsedSequence]:
    """Owned ones first."""
    sequence_rows = rows(cursor, _SEQUENCES, oids=oids)
    by_oid = {row["oid"]: row for row in sequence_rows}
    values: dict[int, Row] = {}
    for oid, row in by_oid.items():
        if row["readable"]:
            with contextlib.suppress(*_UNREADABLE), side_read(cursor):
                name = sql.Identifier(row["schema_name"], row["name"])
                (values[oid],) = rows(cursor, _VALUE.format(name))
    return [UsedSequence(row, values.get(row["oid"], {})) for row in sequence_rows]
