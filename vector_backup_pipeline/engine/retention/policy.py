"""Which backup sets of a location are kept, and why. Pure functions: they read and remove nothing.

Whatever the rules, these are never removed:

- the newest good set and the newest verified one, of each source database and selection of tables;
- what a kept set builds on;
- a set that may hold the only copy of rows that its run truncated, unless asked for;
- sets in use, damaged sets, and sets created in the future;
- anything where no set is good.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone, tzinfo

from vector_backup_pipeline.engine.catalog.contents import is_in_future
from vector_backup_pipeline.engine.catalog.sources import SourceDatabase
from vector_backup_pipeline.engine.catalog.stored_sets import StoredSet
from vector_backup_pipeline.engine.retention.rules import KeepRules


@dataclass(frozen=True)
class Decision:
    """Whether a set is kept or may be removed, with all reasons."""

    stamp: str
    is_good: bool
    is_kept: bool
    reasons: tuple[str, ...]


def decide(
    sets: Sequence[StoredSet],
    in_use: Mapping[str, str],
    rules: KeepRules,
    now: datetime,
    *,
    include_truncated: bool = False,
) -> list[Decision]:
    """The decision on each set, newest first. `in_use` says why sets are in use, by their
    timestamps. Days and other periods are those of the time zone of `now`.

    A set is good if it is complete, has all files, failed no verification, and builds on a good set
    or none. It is counted with the sets of the same source database that have all its tables, and
    only those replace it.
    """
    zone = now.tzinfo or timezone.utc
    sets = sorted(sets, key=lambda each: each.age, reverse=True)
    # A set created while a clock was wrong would be the newest one for a long time.
    judged = [s for s in sets if s.source is not None and not is_in_future(s.created_at, now)]
    flaws = _flaws(judged)
    good = [each for each in judged if each.stamp not in flaws]
    kept: dict[str, list[str]] = {each.stamp: [] for each in sets}
    for each in sets:
        kept[each.stamp] += _own_reasons(each, in_use.get(each.stamp), now, include_truncated)
    unkept = {each.stamp: "no rule keeps it" for each in sets}
    counted = {selection: selection.among(good) for selection in {*map(_Selection.of, judged)}}
    by_rules = {s: _kept_by_rules(counted[s], rules, zone) for s in counted}
    of = " of its database and tables" if len(counted) > 1 else ""
    for each in judged:
        selection = _Selection.of(each)
        newer = [other for other in counted[selection] if other.age > each.age]
        if (flaw := flaws.get(each.stamp)) is None:
            kept[each.stamp] += by_rules[selection][each.stamp]
            if not newer:
                kept[each.stamp].append(f"newest good set{of}")
            if _is_verified(each) and not any(map(_is_verified, newer)):
                kept[each.stamp].append(f"newest verified set{of}")
        elif not newer:
            kept[each.stamp].append(f"{flaw}, but no newer set{of} is good")
        elif rules.is_within(each.created_at, newer[0].created_at, zone):
            kept[each.stamp].append(f"within {rules.keep_within} of the newest good set")
        else:
            unkept[each.stamp] = f"{flaw}, and {newer[0].stamp} is newer and good"
    if not good:
        for reasons in kept.values():
            reasons.append("there is no good set here, so nothing is removed")
    _keep_what_kept_sets_need(sets, kept)
    good_stamps = {each.stamp for each in good}
    return [
        Decision(
            stamp=each.stamp,
            is_good=each.stamp in good_stamps,
            is_kept=bool(kept[each.stamp]),
            reasons=tuple(kept[each.stamp] or [unkept[each.stamp]]),
        )
        for each in sets
    ]


def removal_order(decisions: Sequence[Decision], sets: Sequence[StoredSet]) -> list[Decision]:
    """The decisions on sets that may be removed, in the order of removal: what builds on a set goes
    before it, otherwise the oldest first."""
    bases = {each.stamp: each.builds_on for each in sets}
    left = [decision for decision in reversed(decisions) if not decision.is_kept]
    ordered: list[Decision] = []
    while left:
        needed = {bases[each.stamp] for each in left}
        # Damaged manifests may build on one another in a ring.
        free = [each for each in left if each.stamp not in needed] or left
        ordered += free
        left = [each for each in left if each not in free]
    return ordered


@dataclass(frozen=True)
class _Selection:
    """Tables of a source database."""

    source: SourceDatabase | None
    tables: frozenset[tuple[str, str]]

    @classmethod
    def of(cls, each: StoredSet) -> _Selection:
        return cls(each.source, frozenset(f.identity for f in each.files))

    def among(self, sets: Sequence[StoredSet]) -> list[StoredSet]:
        """The sets of that database that have all of the tables."""
        others = ((each, _Selection.of(each)) for each in sets if each.source == self.source)
        return [each for each, selection in others if self.tables <= selection.tables]


def _is_verified(each: StoredSet) -> bool:
    verified, drill = each.verdicts.verified, each.verdicts.drill
    return verified is not None and verified.passed and (drill is None or drill.passed)


def _flaws(judged: Sequence[StoredSet]) -> dict[str, str]:
    """Why sets are not good, by their timestamps."""
    flaws = {each.stamp: flaw for each in judged if (flaw := _own_flaw(each)) is not None}
    whole = [each for each in judged if each.stamp not in flaws]
    good: set[str | None] = {None}  # Full sets build on nothing.
    while more := {s.stamp for s in whole if s.builds_on in good and s.stamp not in good}:
        good |= more
    for each in whole:
        if each.stamp not in good:
            flaws[each.stamp] = f"{each.builds_on}, which it builds on, is missing or not good"
    return flaws


def _own_flaw(each: StoredSet) -> str | None:
    if not each.says_complete:
        return "it is incomplete"
    if each.broken_files:
        return f"{', '.join(each.broken_files)} is missing or of another size"
    return "a verification found its files damaged" if each.state == "damaged" else None


def _kept_by_rules(
    counted: Sequence[StoredSet], rules: KeepRules, zone: tzinfo
) -> dict[str, list[str]]:
    reasons = rules.reasons([each.created_at for each in counted], zone)
    return {each.stamp: why for each, why in zip(counted, reasons, strict=True)}


def _own_reasons(
    each: StoredSet, in_use: str | None, now: datetime, include_truncated: bool
) -> Iterator[str]:
    if in_use is not None:
        yield in_use
    if each.source is None:
        yield "its manifest can't be read"
    if is_in_future(each.created_at, now):
        yield "it was created in the future, so no rule can judge it; check the clocks"
    emptied = ", ".join(file.table for file in each.emptied)
    if emptied and not include_truncated:
        yield f"its run truncated {emptied}, and it may hold the only copy (--include-truncated)"


def _keep_what_kept_sets_need(sets: Sequence[StoredSet], kept: Mapping[str, list[str]]) -> None:
    by_stamp = {each.stamp: each for each in sets}
    waiting = [each for each in sets if kept[each.stamp]]
    while waiting:
        each = waiting.pop()
        builds = "may build" if each.source is None else "builds"
        for stamp in sorted(each.needs & by_stamp.keys()):
            if not kept[stamp]:
                waiting.append(by_stamp[stamp])
            kept[stamp].append(f"{each.stamp} {builds} on it")
