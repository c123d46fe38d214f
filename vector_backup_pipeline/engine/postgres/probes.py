"""Recall@10 of vector indexes: of the ten true neighbors of a vector, how many a search finds.

Probes are a few of the table's own vectors. Each is searched through the index and exactly, in one
read-only transaction that is limited in time.

pgvector may be in any schema and the search path is empty, so operators and functions are
qualified; expressions and predicates come qualified from the server. Statements are composed
without parameters, so that a `%` in an expression is itself.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg2
from psycopg2.errors import QueryCanceled
from psycopg2.extensions import ISOLATION_LEVEL_REPEATABLE_READ
from psycopg2.extensions import connection as Connection
from psycopg2.sql import SQL, Composable, Identifier, Literal

from vector_backup_pipeline.engine.cancellation import check
from vector_backup_pipeline.engine.postgres.connection import first_line
from vector_backup_pipeline.engine.postgres.definitions.reading import PRIMARY_KEY, Row, rows
from vector_backup_pipeline.engine.postgres.session import (
    apply_session_settings,
    savepoint,
    set_local,
)
from vector_backup_pipeline.engine.postgres.tables import relation_name
from vector_backup_pipeline.engine.results import Recall

_NEIGHBORS = 10
# More candidates than probes are read, since some may be zero vectors. A filter in the query would
# read every vector from TOAST.
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

# The columns of an expression are known from what the index depends on; of those, the ones of a
# vector type (or a domain over one) come first. Without a primary key, rows are told apart by where
# they are stored.
_INDEXES = SQL("""
SELECT i.relname::text AS index, x.indisvalid AND x.indisready AS is_valid,
       c.relkind = 'p' AS is_partitioned,
       pg_catalog.pg_get_indexdef(i.oid, 1, false) AS value,
       COALESCE(pg_catalog.pg_get_expr(x.indpred, x.indrelid), 'true') AS predicate,
       op.oprname::text AS metric,
       pg_catalog.format('OPERATOR(%I.%s)', opn.nspname, op.oprname) AS operator,
       pg_catalog.format_type(oc.opcintype, -1) AS type,
       {primary_key} AS primary_key,
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
  JOIN pg_catalog.pg_class c ON c.oid = x.indrelid
  JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
  JOIN pg_catalog.pg_am am ON am.oid = i.relam AND am.amname IN ('hnsw', 'ivfflat')
  JOIN pg_catalog.pg_opclass oc ON oc.oid = x.indclass[0]
  JOIN pg_catalog.pg_amop ao ON ao.amopfamily = oc.opcfamily AND ao.amoppurpose = 'o'
       AND ao.amoplefttype = oc.opcintype AND ao.amoprighttype = oc.opcintype
  JOIN pg_catalog.pg_operator op ON op.oid = ao.amopopr
  JOIN pg_catalog.pg_namespace opn ON opn.oid = op.oprnamespace
 WHERE x.indrelid = {table}::regclass AND x.indislive
 ORDER BY i.relname
""")


def measure_recall(
    connection: Connection, name: tuple[str, str], label: str, probes: int, seconds: float
) -> list[Recall]:
    """The recall of every vector index of the table `name`, each by `probes` searches.

    Takes a connection of its own, in which it leaves a read-only transaction open, and `seconds` at
    most. `label` is the table's name in results. What cannot be measured comes with a note; only a
    cancellation is raised.
    """
    started = time.monotonic()
    measured: list[Recall] = []
    try:
        reader = _begin(connection, started + seconds)
        table = Literal(Identifier(*name).as_string(connection))
        indexes = reader.ask(_INDEXES.format(table=table, primary_key=PRIMARY_KEY))
        for left, row in zip(range(len(indexes), 0, -1), indexes, strict=True):
            # A slow search leaves the others their share of the time.
            share = (reader.deadline - time.monotonic()) / left
            search = _Search(name, row)
            measured.append(_measure(reader.until(share), search, label, probes))
    except _NotMeasured as reason:
        measured.append(_result(label, None, started, note=str(reason)))
    return measured


def _measure(reader: _Reader, search: _Search, label: str, probes: int) -> Recall:
    started = time.monotonic()
    shares: list[float] = []
    dimensions: set[int] = set()
    note = None
    try:
        if not search.is_valid:
            raise _NotMeasured("the index is not valid")
        candidates = (row["probe"] for row in reader.ask(search.choose_candidates(probes)))
        for probe in itertools.islice(itertools.filterfalse(_is_zero, candidates), probes):
            dimensions.add(_dimensions(probe))
            shares += _share_found(reader, search, probe)
        if not shares:
            raise _NotMeasured("there is no vector to search for")
    except _NotMeasured as reason:
        note = str(reason)
    return _result(label, search, started, dimensions, shares, note)


def _result(
    label: str,
    search: _Search | None,
    started: float,
    dimensions: Collection[int] = (),
    shares: Sequence[float] = (),
    note: str | None = None,
) -> Recall:
    return Recall(
        table=label,
        column=search.column if search else "*",
        index=search.index if search else None,
        metric=search.metric if search else "",
        dimensions=sorted(dimensions),
        probes=len(shares),
        recall=round(sum(shares) / len(shares), 4) if shares else None,
        seconds=round(time.monotonic() - started, 3),
        note=note,
    )


def _is_zero(probe: str) -> bool:
    """Of the text of a vector, such as `[0,0]`, `{}/5` and `00`."""
    return re.search("[1-9]", probe.partition("/")[0]) is None


def _dimensions(probe: str) -> int:
    """Of the text of a vector, such as `[1,2]`, `{1:2}/5` and `01`."""
    if probe.startswith("["):
        return probe.count(",") + 1
    values, _, dimensions = probe.partition("/")
    return int(dimensions or len(values))


def _share_found(reader: _Reader, search: _Search, probe: str) -> list[float]:
    """Of the true neighbors; nothing where there are none, since all distances overflow."""
    by_index, exact = search.neighbors_by_index(probe), search.neighbors(probe)
    (row,) = reader.ask(SQL("EXPLAIN (FORMAT JSON) {}").format(by_index), _BY_INDEX)
    ((explanation,),) = row.values()
    if others := set(_scans(explanation["Plan"])) - search.scans:
        raise _NotMeasured(f"the planner does not use it but {', '.join(sorted(others))}")
    neighbors, true = (
        {row["identity"] for row in reader.ask(query, settings) if row["is_neighbor"]}
        for query, settings in ((by_index, _BY_INDEX), (exact, _EXACT))
    )
    return [len(neighbors & true) / len(true)] if true else []


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
        """The rows of `query`, run with these planner `settings`. Raises `_NotMeasured` if it
        failed or no time is left; other queries can still be asked."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise _NotMeasured(_OUT_OF_TIME)
        with (
            _failures_as_notes(self.deadline),
            self.connection.cursor() as cursor,
            savepoint(cursor, keeps=False),  # The rollback resets the settings.
        ):
            timeout = {"statement_timeout": f"{math.ceil(left * 1000)}ms"}
            set_local(cursor, {**(settings or {}), **timeout})
            return rows(cursor, query)


def _begin(connection: Connection, deadline: float) -> _Reader:
    with _failures_as_notes(deadline), connection.cursor() as cursor:
        connection.rollback()  # The transaction of an earlier table.
        connection.set_session(
            isolation_level=ISOLATION_LEVEL_REPEATABLE_READ, readonly=True, autocommit=False
        )
        apply_session_settings(cursor, lock_timeout=deadline - time.monotonic())
        # An exact search reads the whole table; the server's own workers may help.
        cursor.execute("SET LOCAL max_parallel_workers_per_gather TO DEFAULT")
    return _Reader(connection, deadline)


@contextlib.contextmanager
def _failures_as_notes(deadline: float) -> Iterator[None]:
    try:
        yield
    except psycopg2.Error as error:
        check()
        if isinstance(error, QueryCanceled) and time.monotonic() >= deadline:
            raise _NotMeasured(_OUT_OF_TIME) from error
        raise _NotMeasured(first_line(error)) from error


class _Search:
    """A column, or an expression over it, that can be searched through an index.

    `scans` are the names that the index's scans may have: its own, or those of its partitions.
    """

    def __init__(self, table: tuple[str, str], row: Row) -> None:
        self.index: str = row["index"]
        self.is_valid: bool = row["is_valid"]
        self.metric: str = row["metric"]
        self.column = ", ".join(row["columns"]) or row["value"]
        self.scans = {self.index, *row["parts"]}
        keys = row["primary_key"] or ["tableoid", "ctid"]
        # Qualified: a bare name in ORDER BY could be taken for an output column's.
        key = SQL(", ").join(SQL("{}.{}").format(_ALIAS, Identifier(name)) for name in keys)
        identity = SQL("ROW({})::text").format(key)
        value = SQL("({})").format(SQL(row["value"]))
        relation = relation_name(*table, only=not row["is_partitioned"])
        self._parts = {
            "value": value,
            "operator": SQL(row["operator"]),
            "type": SQL(row["type"]),
            "identity": identity,
            "key": key,
            "keys": SQL(", ").join(Identifier(f"key_{number}") for number in range(len(keys))),
            "seed": identity if row["primary_key"] else SQL("{}::text").format(value),
            "relation": SQL("{} {}").format(relation, _ALIAS),
            "predicate": SQL("({})").format(SQL(row["predicate"])),
            "limit": Literal(_NEIGHBORS),
            # NULL has no distance, and the cosine distance of a zero vector is NaN. Both sort last.
            "is_neighbor": SQL("COALESCE(distance <> 'NaN', false) AS is_neighbor"),
        }

    def choose_candidates(self, probes: int) -> Composable:
        """The first vectors in an order that the data alone decides, so the same in any database.

        CASE keeps the order of evaluation: the value of a row outside the predicate may be an
        error.
        """
        return SQL(
            "SELECT probe::text AS probe"
            "  FROM (SELECT {value} AS probe, pg_catalog.md5({seed}) AS position FROM {relation}"
            "         WHERE {predicate} AND CASE WHEN {predicate} THEN {value} IS NOT NULL END"
            "         ORDER BY 2, {key} LIMIT {candidates}) chosen"
            " ORDER BY position"
        ).format(candidates=Literal(probes + _SPARE_CANDIDATES), **self._parts)

    def neighbors(self, probe: str) -> Composable:
        """The nearest rows, ties by key, from one sort of all distances."""
        return SQL(
            "SELECT identity, {is_neighbor} FROM"
            " (SELECT {identity}, {value} {operator} {probe}::{type} FROM {relation}"
            " WHERE {predicate} ORDER BY 2, {key} LIMIT {limit}) nearest (identity, distance)"
        ).format(probe=Literal(probe), **self._parts)

    def neighbors_by_index(self, probe: str) -> Composable:
        """The same as an index returns them: by distance, of which only equal ones are sorted.

        Written so because servers before PostgreSQL 17 use no index that gives a part of the order.
        """
        return SQL(
            "SELECT identity, {is_neighbor} FROM"
            " (SELECT {identity}, {value} {operator} {probe}::{type}, {key} FROM {relation}"
            " WHERE {predicate} ORDER BY 2) nearest (identity, distance, {keys})"
            " ORDER BY distance, {keys} LIMIT {limit}"
        ).format(probe=Literal(probe), **self._parts)
