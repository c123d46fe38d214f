"""Sequences that tables own or draw from (pg_sequence), and their values."""

import contextlib
from dataclasses import dataclass

import psycopg2
from psycopg2 import sql

from vector_backup_pipeline.engine.postgres.definitions.reading import Catalog, Row, rows, side_read
from vector_backup_pipeline.engine.postgres.definitions.tables import SEQUENCE_OPTIONS
from vector_backup_pipeline.engine.table_definition import Kind, Sequence, Statement

# Owned ('i' identity, 'a' serial: pg_depend points from the sequence to the column), or only used
# in a default (from the default to the sequence; a name inside a string is in no catalog). Servers
# before 17 let a partition have an identity of its own, which is not recreated.
_SEQUENCES = sql.SQL("""
WITH used AS (
    SELECT d.refobjid AS relid, d.refobjsubid AS attnum, d.objid AS oid,
           CASE d.deptype WHEN 'i' THEN 'identity' ELSE 'serial' END AS role
      FROM pg_depend d
     WHERE d.classid = 'pg_class'::regclass
       AND d.refclassid = 'pg_class'::regclass
       AND d.refobjid = ANY(%(oids)s::oid[]) AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')
       AND NOT (d.deptype = 'i' AND d.refobjid = ANY(%(partitions)s::oid[]))
    UNION
    SELECT f.adrelid, f.adnum, d.refobjid, 'shared'
      FROM pg_attrdef f
      JOIN pg_depend d
        ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid
       AND d.refclassid = 'pg_class'::regclass
     WHERE f.adrelid = ANY(%(oids)s::oid[])
       AND NOT EXISTS (
           SELECT FROM pg_depend o
            WHERE o.classid = 'pg_class'::regclass AND o.objid = d.refobjid
              AND o.refclassid = 'pg_class'::regclass AND o.deptype IN ('a', 'i')
              AND o.refobjid = f.adrelid AND o.refobjsubid > 0)
)
SELECT used.relid AS oid, used.oid AS sequence, used.role, n.nspname AS schema_name,
       c.relname AS name, a.attname AS column,
       s.seqincrement AS increment, s.seqmin AS minimum, s.seqmax AS maximum,
       format('CREATE %%sSEQUENCE %%s AS %%s %%s',
           CASE c.relpersistence WHEN 'u' THEN 'UNLOGGED ' END, c.oid::regclass,
           format_type(s.seqtypid, NULL), {options}) AS create_sql,
       format('ALTER SEQUENCE %%s OWNED BY %%s.%%I', c.oid::regclass,
           used.relid::regclass, a.attname) AS owner_sql,
       has_sequence_privilege(c.oid, 'SELECT')
           AND has_schema_privilege(n.oid, 'USAGE') AS readable
  FROM used
  JOIN pg_class c ON c.oid = used.oid AND c.relkind = 'S'
  JOIN pg_sequence s ON s.seqrelid = c.oid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_attribute a ON a.attrelid = used.relid AND a.attnum = used.attnum
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


@dataclass(frozen=True)
class UsedSequence:
    """A sequence as the table or partition with the OID `table` uses it, with its statements."""

    oid: int
    table: int
    definition: Sequence
    statements: list[Statement]


def read_sequences(catalog: Catalog) -> list[UsedSequence]:
    """Owned ones first."""
    values: dict[int, Row] = {}
    sequences = []
    for row in catalog.rows(_SEQUENCES):
        oid = row["sequence"]
        if oid not in values:
            values[oid] = _read_value(catalog, row)
        used = {key: value for key, value in row.items() if key in Sequence.model_fields}
        definition = Sequence(table=catalog.names[row["oid"]], **used, **values[oid])
        name = definition.qualified_name
        statements = []
        # An identity's sequence is created with its column.
        if definition.role != "identity":
            statements.append(Statement(Kind.SEQUENCE, *name, row["create_sql"]))
        if definition.role == "serial":
            statements.append(Statement(Kind.SEQUENCE_OWNER, *name, row["owner_sql"]))
        sequences.append(UsedSequence(oid, row["oid"], definition, statements))
    return sequences


def _read_value(catalog: Catalog, row: Row) -> Row:
    if row["readable"]:
        with contextlib.suppress(*_UNREADABLE), side_read(catalog.cursor):
            name = sql.Identifier(row["schema_name"], row["name"])
            (value,) = rows(catalog.cursor, _VALUE.format(name))
            return value
    return {"last_value": None, "is_called": None}
