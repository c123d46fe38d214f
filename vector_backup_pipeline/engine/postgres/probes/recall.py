"""Recall@10: of the ten true neighbours of a vector, how many a search through an index finds."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from psycopg2.extensions import connection as Connection
from psycopg2.sql import Composable

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


def measure_recall(
    connection: Connection, name: tuple[str, str], label: str, probes: int, seconds: float
) -> list[Recall]:
    """The recall of every vector index of a table, each by `probes` searches.

    Takes a fresh connection, and `seconds` at most. `label` is how results name the table. What
    can't be measured comes with a note; only interrupts are raised.
    """
    if not probes:
        return []
    started = time.monotonic()
    until = started + seconds
    measured: list[Recall] = []
    try:
        with probe_reader(connection, until) as reader:
            source, searches = find_searches(reader, *name, until)
            for left, search in zip(range(len(searches), 0, -1), searches, strict=True):
                if isinstance(search, Unsearchable):
                    measured.append(_unsearchable(label, search))
                else:
                    # Who takes long leaves their share to those that follow.
                    share = (until - time.monotonic()) / left
                    measurement = _Measurement(reader, ProbeStatements(source, search), share)
                    measured.append(measurement.recall(label, probes))
    except NotMeasured as reason:
        measured.append(_not_looked_at(label, str(reason), time.monotonic() - started))
    return measured


@dataclass
class _Measurement:
    """One search with all its probes; keeps what was measured before something went wrong."""

    reader: ProbeReader
    statements: ProbeStatements
    seconds: float
    shares: list[float] = field(default_factory=list)
    dimensions: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._started = time.monotonic()
        self._until = self._started + self.seconds

    @property
    def search(self) -> Search:
        return self.statements.search

    def recall(self, label: str, probes: int) -> Recall:
        note = None
        try:
            for probe in self._choose(probes):
                self.dimensions.add(probe.dimensions)
                self.shares += self._share_found(probe)
            if not self.shares:
                note = "there is no vector to search for"
        except NotMeasured as reason:
            note = str(reason)
        shares = self.shares
        return Recall(
            table=label,
            column=self.search.column,
            index=self.search.index,
            metric=self.search.operator.name,
            dimensions=sorted(self.dimensions),
            probes=len(shares),
            recall=round(sum(shares) / len(shares), 4) if shares else None,
            seconds=round(time.monotonic() - self._started, 3),
            note=note,
        )

    def _choose(self, probes: int) -> list[Probe]:
        for look_at_all in (False, True):
            query = self.statements.choose(probes, look_at_all=look_at_all)
            found = self.reader.ask(query, self._until)
            if len(found) == probes:
                break
        return [Probe(row["text"], int(row["dimensions"])) for row in found]

    def _share_found(self, probe: Probe) -> list[float]:
        """Of the true neighbours; nothing where there are none, since all distances overflow."""
        query = self.statements.neighbours_by_index(probe)
        self._check_index_is_used(query)
        found = self._identities(query, THROUGH_INDEX)
        true = self._identities(self.statements.neighbours(probe), EXACTLY)
        return [len(found & true) / len(true)] if true else []

    def _identities(self, query: Composable, settings: Mapping[str, str]) -> set[str]:
        found = self.reader.ask(query, self._until, settings)
        return {row["identity"] for row in found if row["is_neighbour"]}

    def _check_index_is_used(self, query: Composable) -> None:
        (row,) = self.reader.ask(explained(query), self._until, THROUGH_INDEX)
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
