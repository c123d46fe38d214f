"""What of a table can be searched: its vector columns and their indexes, as the catalogs have them.

pgvector may lie in any schema and the search path is empty, so operators and functions are named
with their schema; expressions and predicates come from the server as SQL that is qualified already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg2.sql import SQL, Composable, Identifier, Literal

from vector_backup_pipeline.engine.postgres.definitions.reading import Row
from vector_backup_pipeline.engine.postgres.probes.reading import NotMeasured, ProbeReader
from vector_backup_pipeline.engine.postgres.tables import relation_name


@dataclass(frozen=True)
class VectorType:
    """One of pgvector's types, or bit; `text` is SQL that leaves its dimensions open."""

    name: str
    schema: str
    text: str

    def dimensions(self, value: Composable) -> Composable:
        if self.name == "bit":
            return SQL("pg_catalog.length({})").format(value)
        if self.name == "sparsevec":  # It has no function for that; its text ends in "}/5".
            return SQL("pg_catalog.split_part({}::text, '/', 2)::int").format(value)
        return self._call("vector_dims", value)

    def is_not_zero(self, value: Composable) -> Composable:
        if self.name == "bit":
            return SQL("position(B'1' IN {}) > 0").format(value)
        norm = "vector_norm" if self.name == "vector" else "l2_norm"
        return SQL("{} > 0").format(self._call(norm, value))

    def bytes_of(self, value: Composable) -> Composable:
        return self._call(f"{self.name}_send", value)

    def _call(self, function: str, value: Composable) -> Composable:
        return SQL("{}({})").format(Identifier(self.schema, function), value)


_TYPE_NAMES = ("vector", "halfvec", "sparsevec", "bit")


@dataclass(frozen=True)
class Operator:
    schema: str
    name: str

    @property
    def sql(self) -> Composable:
        return SQL("OPERATOR({}.{})").format(Identifier(self.schema), SQL(self.name))


@dataclass(frozen=True)
class Source:
    """The table and what tells its rows apart: `primary_key`, or where they lie."""

    relation: Composable
    primary_key: tuple[str, ...]

    @property
    def key(self) -> Sequence[Composable]:
        names = self.primary_key or ("tableoid", "ctid")
        return [Identifier(name) for name in names]


@dataclass(frozen=True)
class Search:
    """A column (or an expression over it) that can be searched through `index`.

    `parts` are the names that the index's scans may have: its own, or those of its partitions.
    """

    column: str
    index: str
    value: Composable
    predicate: Composable
    type: VectorType
    operator: Operator
    parts: frozenset[str]


@dataclass(frozen=True)
class Unsearchable:
    """An index that can't be probed; `reason` says why."""

    column: str
    index: str
    metric: str
    reason: str


_SOURCE = SQL("""
SELECT c.oid, c.relkind = 'p' AS is_partitioned,
       ARRAY(SELECT a.attname::text
               FROM pg_catalog.pg_index x
              CROSS JOIN pg_catalog.unnest(x.indkey::int2[]) WITH ORDINALITY k(attnum, place)
               JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
              WHERE x.indrelid = c.oid AND x.indisprimary AND k.place <= x.indnkeyatts
              ORDER BY k.place) AS primary_key
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname::text = {schema} AND c.relname::text = {table}
""")

# A column may be of a domain.
_VECTOR_COLUMNS = SQL("""
SELECT a.attname::text AS column
  FROM pg_catalog.pg_attribute a
  JOIN pg_catalog.pg_type d ON d.oid = a.atttypid
  JOIN pg_catalog.pg_type t ON t.oid = CASE d.typtype WHEN 'd' THEN d.typbasetype ELSE d.oid END
 WHERE a.attrelid = {oid} AND a.attnum > 0 AND NOT a.attisdropped AND t.typname = ANY ({types})
""")

# The columns of an expression are known from what the index depends on.
_INDEXES = SQL("""
SELECT i.relname::text AS index, x.indisvalid AND x.indisready AS is_valid,
       pg_catalog.pg_get_indexdef(i.oid, 1, false) AS value,
       COALESCE(pg_catalog.pg_get_expr(x.indpred, x.indrelid), 'true') AS predicate,
       t.typname::text AS type, tn.nspname::text AS type_schema,
       pg_catalog.format_type(t.oid, -1) AS type_text,
       opn.nspname::text AS operator_schema, op.oprname::text AS operator,
       ARRAY(SELECT DISTINCT a.attname::text
               FROM pg_catalog.pg_depend p
               JOIN pg_catalog.pg_attribute a
                 ON a.attrelid = p.refobjid AND a.attnum = p.refobjsubid
              WHERE p.classid = 'pg_catalog.pg_class'::regclass AND p.objid = i.oid
                AND p.refclassid = 'pg_catalog.pg_class'::regclass AND p.refobjid = x.indrelid
                AND p.refobjsubid > 0
              ORDER BY 1) AS columns,
       ARRAY(SELECT r.relname::text
               FROM pg_catalog.pg_partition_tree(i.oid) p
               JOIN pg_catalog.pg_class r ON r.oid = p.relid) AS parts
  FROM pg_catalog.pg_index x
  JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
  JOIN pg_catalog.pg_am am ON am.oid = i.relam AND am.amname IN ('hnsw', 'ivfflat')
  JOIN pg_catalog.pg_attribute k ON k.attrelid = i.oid AND k.attnum = 1
  JOIN pg_catalog.pg_opclass oc ON oc.oid = x.indclass[0]
  JOIN pg_catalog.pg_type t ON t.oid = oc.opcintype
  JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace
  LEFT JOIN pg_catalog.pg_amop ao ON ao.amopfamily = oc.opcfamily AND ao.amoppurpose = 'o'
       AND ao.amoplefttype = oc.opcintype AND ao.amoprighttype = oc.opcintype
  LEFT JOIN pg_catalog.pg_operator op ON op.oid = ao.amopopr
  LEFT JOIN pg_catalog.pg_namespace opn ON opn.oid = op.oprnamespace
 WHERE x.indrelid = {oid} AND x.indislive
 ORDER BY i.relname
""")


def find_searches(
    reader: ProbeReader, schema: str, table: str, until: float
) -> tuple[Source, list[Search | Unsearchable]]:
    """The table's vector indexes.

    Raises:
        NotMeasured: the table is not there, or can't be looked at.
    """
    found = reader.ask(_SOURCE.format(schema=Literal(schema), table=Literal(table)), until)
    if not found:
        raise NotMeasured(f"{schema}.{table} is not there any more")
    (row,) = found
    oid = Literal(row["oid"])
    indexes = reader.ask(_INDEXES.format(oid=oid), until)
    vector_columns = _VECTOR_COLUMNS.format(oid=oid, types=Literal(list(_TYPE_NAMES)))
    names = {found["column"] for found in reader.ask(vector_columns, until)}
    relation = relation_name(schema, table, only=not row["is_partitioned"])
    return Source(relation, tuple(row["primary_key"])), [_of_index(each, names) for each in indexes]


def _of_index(index: Row, vector_columns: set[str]) -> Search | Unsearchable:
    columns = [name for name in index["columns"] if name in vector_columns] or index["columns"]
    column = ", ".join(columns)
    if (reason := _why_not(index)) is not None:
        return Unsearchable(column, index["index"], index["operator"] or "", reason)
    return Search(
        column=column,
        index=index["index"],
        value=SQL("({})").format(SQL(index["value"])),
        predicate=SQL("({})").format(SQL(index["predicate"])),
        type=_type(index),
        operator=Operator(index["operator_schema"], index["operator"]),
        parts=frozenset([index["index"], *index["parts"]]),
    )


def _why_not(index: Row) -> str | None:
    if not index["is_valid"]:
        return "the index is not valid"
    if index["operator"] is None or index["type"] not in _TYPE_NAMES:
        return f"it is over {index['type_text']}, which is none of pgvector's types"
    return None


def _type(row: Row) -> VectorType:
    return VectorType(row["type"], row["type_schema"], row["type_text"])
