"""The statements of a probe, composed without parameters: a `%` in an expression is itself."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg2.sql import SQL, Composable, Identifier, Literal

from vector_backup_pipeline.engine.postgres.probes.searches import Search, Source

NEIGHBOURS = 10

_ALIAS = Identifier("searched")

# Candidates beyond those asked for, since some of them may be zero vectors. To look at every row's
# length first would take reading every vector from TOAST.
_SPARE_CANDIDATES = 100

# With everything else out of the way, the planner takes the index if it can be used at all; small
# tables it would rather sort. Incremental sorting, of equal distances by key, is not shut out.
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
    """The statements for the rows of one search."""

    source: Source
    search: Search

    def choose(self, probes: int, *, look_at_all: bool) -> Composable:
        """The first vectors in an order that the data alone decides, so in any database alike.

        The quick way may miss some behind many zero vectors, `look_at_all` does not.
        """
        search = self.search
        return SQL(
            "SELECT probe::text AS text, {dimensions} AS dimensions"
            "  FROM (SELECT {value} AS probe, pg_catalog.md5({seed}) AS place FROM {relation}"
            "         WHERE {rows} AND CASE WHEN {predicate} THEN {is_candidate} END"
            "         ORDER BY 2, {key} LIMIT {candidates}) chosen"
            " WHERE {is_not_zero} ORDER BY place LIMIT {probes}"
        ).format(
            value=search.value,
            seed=self._seed,
            relation=self._relation,
            rows=search.predicate,
            # CASE keeps the order: the value of a row outside the predicate may be an error.
            predicate=search.predicate,
            is_candidate=search.type.is_not_zero(search.value)
            if look_at_all
            else SQL("{} IS NOT NULL").format(search.value),
            key=self._key,
            candidates=Literal(probes + _SPARE_CANDIDATES),
            dimensions=search.type.dimensions(SQL("probe")),
            is_not_zero=search.type.is_not_zero(SQL("probe")),
            probes=Literal(probes),
        )

    def neighbours(self, probe: Probe) -> Composable:
        """The nearest rows, ties by key, from one sort of all distances."""
        return SQL(
            "SELECT identity, {is_neighbour} FROM"
            " (SELECT {identity}, {distance} FROM {relation} WHERE {rows} ORDER BY 2, {key}"
            " LIMIT {limit}) nearest (identity, distance)"
        ).format(**self._parts(probe))

    def neighbours_by_index(self, probe: Probe) -> Composable:
        """The same as an index gives them: by distance, of which only equal ones are left to sort.

        Written so because servers before PostgreSQL 17 use no index that gives a part of the order.
        """
        names = [Identifier(f"key_{number}") for number, _ in enumerate(self.source.key)]
        return SQL(
            "SELECT identity, {is_neighbour} FROM"
            " (SELECT {identity}, {distance}, {key} FROM {relation} WHERE {rows} ORDER BY 2)"
            " nearest (identity, distance, {names}) ORDER BY distance, {names} LIMIT {limit}"
        ).format(names=SQL(", ").join(names), **self._parts(probe))

    def _parts(self, probe: Probe) -> dict[str, Composable]:
        return {
            # Of NULL there is no distance; by cosine a zero vector is NaN away. Both sort last.
            "is_neighbour": SQL("COALESCE(distance <> 'NaN', false) AS is_neighbour"),
            "identity": SQL("ROW({})::text").format(self._key),
            "distance": SQL("{} {} {}::{}").format(
                self.search.value,
                self.search.operator.sql,
                Literal(probe.text),
                SQL(self.search.type.text),
            ),
            "key": self._key,
            "relation": self._relation,
            "rows": self.search.predicate,
            "limit": Literal(NEIGHBOURS),
        }

    @property
    def _relation(self) -> Composable:
        return SQL("{} {}").format(self.source.relation, _ALIAS)

    @property
    def _key(self) -> Composable:
        """Qualified: a bare name in ORDER BY could be taken for an output column's."""
        return SQL(", ").join(SQL("{}.{}").format(_ALIAS, name) for name in self.source.key)

    @property
    def _seed(self) -> Composable:
        if self.source.primary_key:
            return SQL("ROW({})::text").format(self._key)
        return self.search.type.bytes_of(self.search.value)


def explained(query: Composable) -> Composable:
    return SQL("EXPLAIN (FORMAT JSON) {}").format(query)
