"""pg_constraint, pg_index and pg_statistic_ext: what holds between and over the columns."""

from __future__ import annotations

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.postgres.definitions.reading import (
    Row,
    grouped,
    not_internal,
    options,
    rows,
)
from vector_backup_pipeline.engine.table_definition import (
    Constraint,
    Index,
    QualifiedName,
    Statistics,
)

# NOT ENFORCED constraints are not validated either, so `validated` says enough. A row with
# conparentid is a partition's copy, which its parent's statement makes again.
_CONSTRAINTS = sql.SQL("""
SELECT c.conrelid, c.conname AS name, c.contype AS kind,
       pg_catalog.pg_get_constraintdef(c.oid) AS definition,
       ARRAY(SELECT a.attname::text
               FROM pg_catalog.unnest(c.conkey) WITH ORDINALITY k(attnum, place)
               JOIN pg_catalog.pg_attribute a
                 ON a.attrelid = c.conrelid AND a.attnum = k.attnum
              ORDER BY k.place) AS columns,
       c.convalidated AS validated, c.conislocal AND c.conparentid = 0 AS local,
       c.coninhcount > 0 OR c.conparentid <> 0 AS inherited,
       c.contype = 'n' AND c.connoinherit AS no_inherit,
       fn.nspname AS referenced_schema, f.relname AS referenced_name,
       i.reloptions, pn.nspname AS attached_schema, p.relname AS attached_name
  FROM pg_catalog.pg_constraint c
  LEFT JOIN pg_catalog.pg_class f ON f.oid = c.confrelid AND c.contype = 'f'
  LEFT JOIN pg_catalog.pg_namespace fn ON fn.oid = f.relnamespace
  LEFT JOIN pg_catalog.pg_class i ON i.oid = c.conindid AND c.contype IN ('p', 'u', 'x')
  LEFT JOIN pg_catalog.pg_inherits h ON h.inhrelid = i.oid
  LEFT JOIN pg_catalog.pg_class p ON p.oid = h.inhparent
  LEFT JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
 WHERE c.conrelid = ANY(%(oids)s::oid[]) AND c.contype IN ('p', 'u', 'c', 'f', 'x', 'n')
   AND {not_internal}
 ORDER BY c.conrelid, c.contype, c.conname
""").format(not_internal=not_internal("c"))

# A partitioned table's index is "invalid" until each partition's is attached: pg_dump and we
# take it all the same. An expression column's statistics target sits in the index's pg_attribute.
_INDEXES = """
SELECT x.indrelid, i.relname AS name, pg_catalog.pg_get_indexdef(x.indexrelid) AS definition,
       am.amname AS access_method, x.indisunique AS unique,
       (x.indisvalid AND x.indisready) OR i.relkind = 'I' AS valid,
       ARRAY(SELECT ARRAY[ocn.nspname::text, oc.opcname::text]
               FROM pg_catalog.unnest(x.indclass::oid[]) WITH ORDINALITY k(oid, place)
               JOIN pg_catalog.pg_opclass oc ON oc.oid = k.oid
               JOIN pg_catalog.pg_namespace ocn ON ocn.oid = oc.opcnamespace
              ORDER BY k.place) AS operator_classes,
       ARRAY(SELECT pg_catalog.format('%%s=%%s', a.attnum, a.attstattarget)
               FROM pg_catalog.pg_attribute a
              WHERE a.attrelid = i.oid AND a.attstattarget >= 0
              ORDER BY a.attnum) AS statistics_targets,
       pn.nspname AS attached_schema, p.relname AS attached_name,
       c.oid IS NOT NULL AS owned, x.indisclustered, x.indisreplident
  FROM pg_catalog.pg_index x
  JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
  JOIN pg_catalog.pg_am am ON am.oid = i.relam
  LEFT JOIN pg_catalog.pg_constraint c ON c.conindid = i.oid AND c.contype IN ('p', 'u', 'x')
  LEFT JOIN pg_catalog.pg_inherits h ON h.inhrelid = i.oid
  LEFT JOIN pg_catalog.pg_class p ON p.oid = h.inhparent
  LEFT JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
 WHERE x.indrelid = ANY(%(oids)s::oid[]) AND x.indislive
 ORDER BY x.indrelid, i.relname
"""

_STATISTICS = sql.SQL("""
SELECT s.stxrelid, n.nspname AS schema_name, s.stxname AS name,
       pg_catalog.pg_get_statisticsobjdef(s.oid) AS definition,
       NULLIF(s.stxstattarget, -1) AS target
  FROM pg_catalog.pg_statistic_ext s
  JOIN pg_catalog.pg_namespace n ON n.oid = s.stxnamespace
 WHERE s.stxrelid = ANY(%(oids)s::oid[])
 ORDER BY s.stxrelid, n.nspname, s.stxname
""")


class Indexes:
    """By table: its own indexes, and those that CLUSTER and the replica identity go by."""

    def __init__(self, found: list[Row]) -> None:
        own = [row for row in found if not row["owned"]]
        self.secondary = grouped(own, lambda row: int(row["indrelid"]), _index)
        self.clustered = {row["indrelid"]: row["name"] for row in found if row["indisclustered"]}
        self.replica_identity = {
            row["indrelid"]: row["name"] for row in found if row["indisreplident"]
        }


def read_constraints(cursor: Cursor, oids: list[int]) -> dict[int, list[Constraint]]:
    found = rows(cursor, _CONSTRAINTS, oids=oids)
    return grouped(found, lambda row: int(row["conrelid"]), _constraint)


def read_indexes(cursor: Cursor, oids: list[int]) -> Indexes:
    return Indexes(rows(cursor, _INDEXES, oids=oids))


def read_statistics(cursor: Cursor, oids: list[int]) -> dict[int, list[Statistics]]:
    found = rows(cursor, _STATISTICS, oids=oids)
    return grouped(
        found,
        lambda row: int(row["stxrelid"]),
        lambda row: Statistics(
            schema_name=row["schema_name"],
            name=row["name"],
            definition=row["definition"],
            target=row["target"],
        ),
    )


def _constraint(row: Row) -> Constraint:
    return Constraint(
        name=row["name"],
        kind=row["kind"],
        definition=row["definition"],
        columns=tuple(row["columns"]),
        validated=row["validated"],
        local=row["local"],
        inherited=row["inherited"],
        no_inherit=row["no_inherit"],
        references=_named(row, "referenced"),
        index_options=options(row["reloptions"]),
        attached_to=_named(row, "attached"),
    )


def _index(row: Row) -> Index:
    targets = options(row["statistics_targets"])
    return Index(
        name=row["name"],
        definition=row["definition"],
        access_method=row["access_method"],
        unique=row["unique"],
        valid=row["valid"],
        operator_classes=tuple(_operator_class(each) for each in row["operator_classes"]),
        statistics_targets={int(number): int(target) for number, target in targets.items()},
        attached_to=_named(row, "attached"),
    )


def _operator_class(names: list[str]) -> QualifiedName:
    schema_name, name = names
    return QualifiedName(schema_name=schema_name, name=name)


def _named(row: Row, which: str) -> QualifiedName | None:
    if row[which + "_name"] is None:
        return None
    return QualifiedName(schema_name=row[which + "_schema"], name=row[which + "_name"])
