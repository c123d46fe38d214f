"""Recall@10: of the ten true neighbours of a vector, how many a search through an index finds."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from psycopg2.sql import Composable

from vector_backup_pipeline.engine.postgres.connection import Connection
from vector_backup_pipeline.engine.postgres.probes.reading import (
    NotMeasured,
    ProbeReader,
    probe_reader,
)
from vector_backup_pipeline.engine.postgres.probes.searches import (
    Search,
    Unsearchable,
    find_searches,
)
from vector_backup_pipeline.engine.postgres.probes.statements import (
    EXACTLY,
    THROUGH_INDEX,
    Probe,
    ProbeStatements,
    explained,
)
from vector_backup_pipeline.engine.results import Recall

_AS_THE_PLANNER_LIKES: Mapping[str, str] = {}


def measure_recall(
    connection: Connection, schema: str, table: str, label: str, probes: int, seconds: float
) -> list[Recall]:
    """The recall of every vector index of a table, and of every vector column without one.

    Takes a fresh connection, and `seconds` at most. `label` is how results name the table; `probes`
    are for each number of dimensions that occurs. What can't be measured comes with a note; only
    interrupts are raised.
    """
    started = time.monotonic()
    until = started + seconds
    measured: list[Recall] = []
    try:
        with probe_reader(connection, until) as reader:
            source, searches = find_searches(reader, schema, table, until)
            for number, search in enumerate(searches):
                now = time.monotonic()
                # An index that takes long leaves their share to those that follow.
                its_end = now + (until - now) / (len(searches) - number)
                if isinstance(search, Unsearchable):
                    measured.append(_unsearchable(label, search))
                    continue
                measurement = _Measurement(reader, ProbeStatements(source, search), its_end)
                measurement.run(probes)
                if not measurement.is_of_nothing:
                    measured.append(measurement.recall(label, time.monotonic() - now))
    except NotMeasured as reason:
        measured.append(_not_looked_at(label, str(reason), time.monotonic() - started))
    return measured


@dataclass
class _Measurement:
    """One search with all its probes; keeps what was measured before something went wrong."""

    reader: ProbeReader
    statements: ProbeStatements
    until: float
    shares: list[float] = field(default_factory=list)
    dimensions: set[int] = field(default_factory=set)
    note: str | None = None
    is_of_nothing: bool = False

    @property
    def search(self) -> Search:
        return self.statements.search

    def run(self, probes: int) -> None:
        try:
            for statements in self._by_dimensions():
                for probe in self._choose(statements, probes):
                    self.dimensions.add(probe.dimensions)
                    self.shares.append(self._share_found(statements, probe))
            if not self.shares:
                self.note = "there is no vector to search for"
        except NotMeasured as reason:
            self.note = str(reason)

    def recall(self, label: str, seconds: float) -> Recall:
        shares = self.shares
        return Recall(
            table=label,
            column=self.search.column,
            index=self.search.index,
            metric=self.search.operator.name,
            dimensions=sorted(self.dimensions),
            probes=len(shares),
            recall=round(sum(shares) / len(shares), 4) if shares else None,
            seconds=round(seconds, 3),
            note=self.note,
        )

    def _by_dimensions(self) -> Iterator[ProbeStatements]:
        """An index holds vectors of one kind, a column without a modifier any."""
        if not self.search.dimensions_vary:
            yield self.statements
            return
        found = self.reader.ask(self.statements.occurring_dimensions(), self.until)
        occurring = [int(row["dimensions"]) for row in found]
        here = [number for number in occurring if number not in self.search.elsewhere]
        self.is_of_nothing = not here and bool(self.search.elsewhere)
        for number in here:
            yield replace(self.statements, dimensions=number if len(occurring) > 1 else None)

    def _choose(self, statements: ProbeStatements, probes: int) -> list[Probe]:
        for look_at_all in (False, True):
            query = statements.choose(probes, look_at_all=look_at_all)
            found = self.reader.ask(query, self.until)
            if len(found) == probes:
                break
        return [Probe(row["text"], int(row["dimensions"])) for row in found]

    def _share_found(self, statements: ProbeStatements, probe: Probe) -> float:
        query = statements.neighbours(probe)
        settings = THROUGH_INDEX if self.search.index else _AS_THE_PLANNER_LIKES
        if self.search.index:
            self._check_index_is_used(query, settings)
        found = self._identities(query, settings)
        true = self._identities(query, EXACTLY)
        return len(found & true) / len(true)

    def _identities(self, query: Composable, settings: Mapping[str, str]) -> set[str]:
        return {row["identity"] for row in self.reader.ask(query, self.until, settings)}

    def _check_index_is_used(self, query: Composable, settings: Mapping[str, str]) -> None:
        (row,) = self.reader.ask(explained(query), self.until, settings)
        ((explanation,),) = row.values()
        others = set(_scans(explanation["Plan"])) - self.search.parts
        if others:
            raise NotMeasured(f"the planner does not use it but {', '.join(sorted(others))}")


def _scans(node: Mapping[str, Any]) -> Iterator[str]:
    """The index of each scan in a plan, or what else it is."""
    if "Relation Name" in node:
        yield node.get("Index Name") or f"a {node['Node Type']} of {node['Relation Name']}"
    for child in node.get("Plans", ()):
        yield from _scans(child)


def _unsearchable(label: str, search: Unsearchable) -> Recall:
    return Recall(
        table=label,
        column=search.column,
        index=search.index,
        metric=search.metric,
        dimensions=[],
        probes=0,
        recall=None,
        seconds=0.0,
        note=search.reason,
    )


def _not_looked_at(label: str, reason: str, seconds: float) -> Recall:
    return Recall(
        table=label,
        column="*",
        index=None,
        metric="",
        dimensions=[],
        probes=0,
        recall=None,
        seconds=round(seconds, 3),
        note=reason,
    )
