"""The statements of a probe, composed without parameters: a `%` in an expression is itself."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg2.sql import SQL, Composable, Literal

from vector_backup_pipeline.engine.postgres.probes.searches import Search, Source

NEIGHBOURS = 10

# Candidates beyond those asked for, since some of them may be zero vectors. To look at every row's
# length first would take reading every vector from TOAST.
_SPARE_CANDIDATES = 100

# With everything else out of the way, the planner takes the index if it can be used at all; small
# tables it would rather sort. Incremental sorting, by distance and then key, is none of these.
THROUGH_INDEX = {
    "enable_seqscan": "off",
    "enable_sort": "off",
    "enable_bitmapscan": "off",
    "enable_indexscan": "on",
    "enable_incremental_sort": "on",
}
EXACTLY = {
    "enable_seqscan": "on",
    "enable_sort": "on",
    "enable_bitmapscan": "off",
    "enable_indexscan": "off",
    "enable_indexonlyscan": "off",
}


@dataclass(frozen=True)
class Probe:
    """A vector to search for, as its type's text."""

    text: str
    dimensions: int


@dataclass(frozen=True)
class ProbeStatements:
    """The statements for the rows that `search` is about, of them those of `dimensions` alone
    (None where they can be of one kind only)."""

    source: Source
    search: Search
    dimensions: int | None = None

    def occurring_dimensions(self) -> Composable:
        return SQL("SELECT DISTINCT {} AS dimensions FROM {} WHERE {} ORDER BY 1").format(
            self.search.type.dimensions(self.search.value), self.source.relation, self._rows
        )

    def choose(self, probes: int, *, look_at_all: bool) -> Composable:
        """The first vectors in an order that the data alone decides, so in any database alike.

        The quick way may miss some behind many zero vectors, `look_at_all` does not.
        """
        search = self.search
        is_not_zero = search.type.is_not_zero(search.value) if look_at_all else SQL("true")
        return SQL(
            "SELECT probe::text AS text, {dimensions} AS dimensions"
            "  FROM (SELECT {value} AS probe, pg_catalog.md5({seed}) AS place FROM {relation}"
            "         WHERE {rows} AND {is_not_zero} ORDER BY 2, {key} LIMIT {candidates}) chosen"
            " WHERE {probe_is_not_zero} ORDER BY place LIMIT {probes}"
        ).format(
            value=search.value,
            seed=self._seed,
            relation=self.source.relation,
            rows=self._rows,
            is_not_zero=is_not_zero,
            key=self._key,
            candidates=Literal(probes + _SPARE_CANDIDATES),
            dimensions=search.type.dimensions(SQL("probe")),
            probe_is_not_zero=search.type.is_not_zero(SQL("probe")),
            probes=Literal(probes),
        )

    def neighbours(self, probe: Probe) -> Composable:
        """The nearest rows, ties by key. By cosine a zero vector is NaN away from all, which sorts
        last: no neighbour."""
        return SQL(
            "SELECT identity FROM (SELECT ROW({key})::text AS identity,"
            " {value} {operator} {probe}::{type} AS distance FROM {relation} WHERE {rows}"
            " ORDER BY 2, {key} LIMIT {limit}) nearest WHERE distance <> 'NaN'"
        ).format(
            key=self._key,
            value=self.search.value,
            operator=self.search.operator.sql,
            probe=Literal(probe.text),
            type=SQL(self.search.type.text),
            relation=self.source.relation,
            rows=self._rows,
            limit=Literal(NEIGHBOURS),
        )

    @property
    def _rows(self) -> Composable:
        clause = SQL("{} AND {} IS NOT NULL").format(self.search.predicate, self.search.value)
        if self.dimensions is None:
            return clause
        return SQL("{} AND {} = {}").format(
            clause, self.search.type.dimensions(self.search.value), Literal(self.dimensions)
        )

    @property
    def _key(self) -> Composable:
        return SQL(", ").join(self.source.key)

    @property
    def _seed(self) -> Composable:
        if self.source.primary_key:
            return SQL("ROW({})::text").format(self._key)
        return self.search.type.bytes_of(self.search.value)


def explained(query: Composable) -> Composable:
    return SQL("EXPLAIN (FORMAT JSON) {}").format(query)
