"""Recall@10 of vector indexes: of the ten true neighbors of a vector, how many a search finds.

Probes are a few of the table's own vectors. Each is searched through the index and exactly, in one
read-only transaction that is limited in time.

pgvector may be in any schema and the search path is empty, so operators and functions are
qualified; expressions and predicates come qualified from the server. Statements are composed
without parameters, so that a `%` in an expression is itself.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg2
from psycopg2.errors import QueryCanceled
from psycopg2.extensions import ISOLATION_LEVEL_REPEATABLE_READ
from psycopg2.extensions import connection as Connection
from psycopg2.sql import SQL, Composable, Identifier, Literal

from vector_backup_pipeline.engine.cancellation import check
from vector_backup_pipeline.engine.postgres.definitions.reading import Row, rows
from vector_backup_pipeline.engine.postgres.session import apply_session_settings, savepoint
from vector_backup_pipeline.engine.postgres.tables import relation_name
from vector_backup_pipeline.engine.results import Recall

_NEIGHBORS = 10
# More candidates than probes are read, since some may be zero vectors. Filtering before the LIMIT
# would read every vector from TOAST.
_SPARE_CANDIDATES = 100
_OUT_OF_TIME = "the time for it ran out"
_ALIAS = Identifier("searched")

# With everything else disabled, the planner takes the index if it can be used at all; small tables
# it would rather sort. Incremental sorting, of equal distances by key, stays enabled.
_BY_INDEX = {
    "enable_seqscan": "off",
    "enable_sort": "off",
    "enable_bitmapscan": "off",
    "enable_indexscan": "on",
    "enable_incremental_sort": "on",
}
_EXACT = {
    "enable_seqscan": "on",
    "enable_sort": "on",
    "enable_bitmapscan": "off",
    "enable_indexscan": "off",
    "enable_indexonlyscan": "off",
}

_TABLE = SQL("""
SELECT c.oid, c.relkind = 'p' AS is_partitioned,
       ARRAY(SELECT a.attname::text
               FROM pg_catalog.pg_index x
              CROSS JOIN pg_catalog.unnest(x.indkey::int2[]) WITH ORDINALITY k(attnum, position)
               JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
              WHERE x.indrelid = c.oid AND x.indisprimary AND k.position <= x.indnkeyatts
              ORDER BY k.position) AS primary_key
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname::text = {schema} AND c.relname::text = {table}
""")
# The columns of an expression are known from what the index depends on; of those, the ones of a
# vector type (or a domain over one) come first.
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
               JOIN pg_catalog.pg_type d ON d.oid = a.atttypid
               JOIN pg_catalog.pg_type b
                 ON b.oid = CASE d.typtype WHEN 'd' THEN d.typbasetype ELSE d.oid END
              WHERE p.classid = 'pg_catalog.pg_class'::regclass AND p.objid = i.oid
                AND p.refclassid = 'pg_catalog.pg_class'::regclass AND p.refobjid = x.indrelid
                AND p.refobjsubid > 0
                AND b.typname IN ('vector', 'halfvec', 'sparsevec', 'bit')
              ORDER BY 1) AS columns,
       ARRAY(SELECT r.relname::text
               FROM pg_catalog.pg_partition_tree(i.oid) p
               JOIN pg_catalog.pg_class r ON r.oid = p.relid) AS parts
  FROM pg_catalog.pg_index x
  JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
  JOIN pg_catalog.pg_am am ON am.oid = i.relam AND am.amname IN ('hnsw', 'ivfflat')
  JOIN pg_catalog.pg_opclass oc ON oc.oid = x.indclass[0]
  JOIN pg_catalog.pg_type t ON t.oid = oc.opcintype
  JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace
  JOIN pg_catalog.pg_amop ao ON ao.amopfamily = oc.opcfamily AND ao.amoppurpose = 'o'
       AND ao.amoplefttype = oc.opcintype AND ao.amoprighttype = oc.opcintype
  JOIN pg_catalog.pg_operator op ON op.oid = ao.amopopr
  JOIN pg_catalog.pg_namespace opn ON opn.oid = op.oprnamespace
 WHERE x.indrelid = {oid} AND x.indislive
 ORDER BY i.relname
""")


def measure_recall(
    connection: Connection, name: tuple[str, str], label: str, probes: int, seconds: float
) -> list[Recall]:
    """The recall of every vector index of the table `name`, each by `probes` searches.

    Takes a new connection, and `seconds` at most. `label` is the table's name in results. What
    can't be measured comes with a note; only a cancellation is raised.
    """
    started = time.monotonic()
    measured: list[Recall] = []
    try:
        with _reader(connection, started + seconds) as reader:
            searches = _searches(reader, name)
            for left, search in zip(range(len(searches), 0, -1), searches, strict=True):
                # A slow search leaves the others their share of the time.
                share = (reader.deadline - time.monotonic()) / left
                measured.append(_measure(reader.until(share), search, label, probes))
    except _NotMeasured as reason:
        unread = Recall(
            table=label,
            column="*",
            index=None,
            metric="",
            dimensions=[],
            probes=0,
            recall=None,
            seconds=round(time.monotonic() - started, 3),
            note=str(reason),
        )
        measured.append(unread)
    return measured


def _measure(reader: _Reader, search: _Search, label: str, probes: int) -> Recall:
    started = time.monotonic()
    shares: list[float] = []
    dimensions: set[int] = set()
    note = None
    try:
        if not search.is_valid:
            raise _NotMeasured("the index is not valid")
        for probe in reader.ask(search.choose_probes(probes)):
            dimensions.add(int(probe["dimensions"]))
            shares += _share_found(reader, search, probe["text"])
        if not shares:
            raise _NotMeasured("there is no vector to search for")
    except _NotMeasured as reason:
        note = str(reason)
    return Recall(
        table=label,
        column=search.column,
        index=search.index,
        metric=search.operator,
        dimensions=sorted(dimensions),
        probes=len(shares),
        recall=round(sum(shares) / len(shares), 4) if shares else None,
        seconds=round(time.monotonic() - started, 3),
        note=note,
    )


def _share_found(reader: _Reader, search: _Search, probe: str) -> list[float]:
    """Of the true neighbors; nothing where there are none, since all distances overflow."""
    query = search.neighbors_by_index(probe)
    (row,) = reader.ask(SQL("EXPLAIN (FORMAT JSON) {}").format(query), _BY_INDEX)
    ((explanation,),) = row.values()
    if others := set(_scans(explanation["Plan"])) - search.parts:
        raise _NotMeasured(f"the planner does not use it but {', '.join(sorted(others))}")
    found, true = (
        {row["identity"] for row in reader.ask(asked, settings) if row["is_neighbor"]}
        for asked, settings in ((query, _BY_INDEX), (search.neighbors(probe), _EXACT))
    )
    return [len(found & true) / len(true)] if true else []


def _scans(node: Mapping[str, Any]) -> Iterator[str]:
    """The index of each scan in a plan, or the kind of scan."""
    if "Relation Name" in node:
        yield node.get("Index Name") or f"a {node['Node Type']} of {node['Relation Name']}"
    for child in node.get("Plans", ()):
        yield from _scans(child)


class _NotMeasured(Exception):
    """Why there is no measurement, as the note of a result."""


@dataclass(frozen=True)
class _Reader:
    """Queries of the target, all in one snapshot, until `deadline` of the monotonic clock."""

    connection: Connection
    deadline: float

    def until(self, seconds: float) -> _Reader:
        return _Reader(self.connection, time.monotonic() + seconds)

    def ask(self, query: Composable, settings: Mapping[str, str] | None = None) -> list[Row]:
        """The rows of `query`, run with these planner `settings`.

        Raises:
            _NotMeasured: it failed, or no time is left; other queries can still be asked.
        """
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise _NotMeasured(_OUT_OF_TIME)
        local = {**(settings or {}), "statement_timeout": f"{math.ceil(left * 1000)}ms"}
        assignments = [
            SQL("SET LOCAL {} = {}").format(Identifier(name), Literal(value))
            for name, value in local.items()
        ]
        with (
            _failures_as_notes(self.deadline),
            self.connection.cursor() as cursor,
            savepoint(cursor, keeps=False),  # The rollback resets the settings.
        ):
            cursor.execute(SQL("; ").join(assignments))
            return rows(cursor, query)


@contextlib.contextmanager
def _reader(connection: Connection, deadline: float) -> Iterator[_Reader]:
    try:
        with _failures_as_notes(deadline), connection.cursor() as cursor:
            connection.set_session(
                isolation_level=ISOLATION_LEVEL_REPEATABLE_READ, readonly=True, autocommit=False
            )
            apply_session_settings(cursor, lock_timeout=deadline - time.monotonic())
            # An exact search reads the whole table; the server's own workers may help.
            cursor.execute("SET LOCAL max_parallel_workers_per_gather TO DEFAULT")
        yield _Reader(connection, deadline)
    finally:
        with contextlib.suppress(psycopg2.Error):
            connection.rollback()


@contextlib.contextmanager
def _failures_as_notes(deadline: float) -> Iterator[None]:
    try:
        yield
    except psycopg2.Error as error:
        check()
        if isinstance(error, QueryCanceled) and time.monotonic() >= deadline:
            raise _NotMeasured(_OUT_OF_TIME) from error
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise _NotMeasured(lines[0].rstrip(".")) from error


def _searches(reader: _Reader, name: tuple[str, str]) -> list[_Search]:
    """A search for each vector index of the table.

    Raises:
        _NotMeasured: the table is gone, or can't be read.
    """
    schema, table = name
    found = reader.ask(_TABLE.format(schema=Literal(schema), table=Literal(table)))
    if not found:
        raise _NotMeasured(f"{schema}.{table} is gone")
    (row,) = found
    return [
        _Search(
            relation=relation_name(schema, table, only=not row["is_partitioned"]),
            primary_key=tuple(row["primary_key"]),
            column=", ".join(index["columns"]) or index["value"],
            index=index["index"],
            is_valid=index["is_valid"],
            value=SQL("({})").format(SQL(index["value"])),
            predicate=SQL("({})").format(SQL(index["predicate"])),
            type=index["type"],
            type_schema=index["type_schema"],
            type_text=index["type_text"],
            operator=index["operator"],
            operator_schema=index["operator_schema"],
            parts=frozenset([index["index"], *index["parts"]]),
        )
        for index in reader.ask(_INDEXES.format(oid=Literal(row["oid"])))
    ]


@dataclass(frozen=True)
class _Search:
    """A column, or an expression over it, that can be searched through `index`.

    `type` is one of pgvector's types or bit, `type_text` is SQL without its dimensions. `parts` are
    the names that the index's scans may have: its own, or those of its partitions.
    """

    relation: Composable
    primary_key: tuple[str, ...]
    column: str
    index: str
    is_valid: bool
    value: Composable
    predicate: Composable
    type: str
    type_schema: str
    type_text: str
    operator: str
    operator_schema: str
    parts: frozenset[str]

    def choose_probes(self, probes: int) -> Composable:
        """The first vectors in an order that the data alone decides, so the same in any database.

        CASE keeps the order of evaluation: the value of a row outside the predicate may be an
        error.
        """
        is_not_zero, dimensions = self._is_not_zero(SQL("probe")), self._dimensions(SQL("probe"))
        return SQL(
            "SELECT probe::text AS text, {dimensions} AS dimensions"
            "  FROM (SELECT {value} AS probe, pg_catalog.md5({seed}) AS position FROM {relation}"
            "         WHERE {predicate} AND CASE WHEN {predicate} THEN {value} IS NOT NULL END"
            "         ORDER BY 2, {key} LIMIT {candidates}) chosen"
            " WHERE {is_not_zero} ORDER BY position LIMIT {probes}"
        ).format(
            value=self.value,
            seed=SQL("ROW({})::text").format(self._key)
            if self.primary_key
            else self._function(f"{self.type}_send", self.value),
            relation=self._aliased,
            predicate=self.predicate,
            key=self._key,
            candidates=Literal(probes + _SPARE_CANDIDATES),
            dimensions=dimensions,
            is_not_zero=is_not_zero,
            probes=Literal(probes),
        )

    def neighbors(self, probe: str) -> Composable:
        """The nearest rows, ties by key, from one sort of all distances."""
        return SQL(
            "SELECT identity, {is_neighbor} FROM"
            " (SELECT {identity}, {distance} FROM {relation} WHERE {predicate} ORDER BY 2, {key}"
            " LIMIT {limit}) nearest (identity, distance)"
        ).format(**self._parts_of_query(probe))

    def neighbors_by_index(self, probe: str) -> Composable:
        """The same as an index returns them: by distance, of which only equal ones are sorted.

        Written so because servers before PostgreSQL 17 use no index that gives a part of the order.
        """
        keys = SQL(", ").join(Identifier(f"key_{number}") for number, _ in enumerate(self._keys))
        return SQL(
            "SELECT identity, {is_neighbor} FROM"
            " (SELECT {identity}, {distance}, {key} FROM {relation} WHERE {predicate} ORDER BY 2)"
            " nearest (identity, distance, {keys}) ORDER BY distance, {keys} LIMIT {limit}"
        ).format(keys=keys, **self._parts_of_query(probe))

    def _parts_of_query(self, probe: str) -> dict[str, Composable]:
        return {
            # NULL has no distance, and the cosine distance of a zero vector is NaN. Both sort last.
            "is_neighbor": SQL("COALESCE(distance <> 'NaN', false) AS is_neighbor"),
            "identity": SQL("ROW({})::text").format(self._key),
            "distance": SQL("{} OPERATOR({}.{}) {}::{}").format(
                self.value,
                Identifier(self.operator_schema),
                SQL(self.operator),
                Literal(probe),
                SQL(self.type_text),
            ),
            "key": self._key,
            "relation": self._aliased,
            "predicate": self.predicate,
            "limit": Literal(_NEIGHBORS),
        }

    @property
    def _aliased(self) -> Composable:
        return SQL("{} {}").format(self.relation, _ALIAS)

    @property
    def _keys(self) -> tuple[str, ...]:
        return self.primary_key or ("tableoid", "ctid")

    @property
    def _key(self) -> Composable:
        """Qualified: a bare name in ORDER BY could be taken for an output column's."""
        return SQL(", ").join(SQL("{}.{}").format(_ALIAS, Identifier(name)) for name in self._keys)

    def _dimensions(self, value: Composable) -> Composable:
        if self.type == "bit":
            return SQL("pg_catalog.length({})").format(value)
        if self.type == "sparsevec":  # It has no function for that; its text ends in "}/5".
            return SQL("pg_catalog.split_part({}::text, '/', 2)::int").format(value)
        return self._function("vector_dims", value)

    def _is_not_zero(self, value: Composable) -> Composable:
        if self.type == "bit":
            return SQL("position(B'1' IN {}) > 0").format(value)
        norm = "vector_norm" if self.type == "vector" else "l2_norm"
        return SQL("{} > 0").format(self._function(norm, value))

    def _function(self, name: str, value: Composable) -> Composable:
        return SQL("{}({})").format(Identifier(self.type_schema, name), value)
