"""Which backup sets of a location are kept, and why. Pure functions: they read and remove nothing.

Whatever the rules, these are never removed:

- the newest good set and the newest verified one, of each source database and selection of tables;
- what a kept set builds on;
- a set that may have the only copy of rows that its run truncated, unless `include_truncated`;
- sets in use, damaged sets, and sets created in the future;
- any set, if no set of the location is good.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from vector_backup_pipeline.engine.catalog.contents import is_in_future
from vector_backup_pipeline.engine.catalog.sources import SourceDatabase
from vector_backup_pipeline.engine.catalog.stored_sets import StoredSet
from vector_backup_pipeline.engine.retention.rules import KeepRules


@dataclass(frozen=True)
class Decision:
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
    sets = sorted(sets, key=lambda backup_set: backup_set.age, reverse=True)
    # A set created while a clock was wrong would be the newest one for a long time.
    judged = [s for s in sets if s.source is not None and not is_in_future(s.created_at, now)]
    flaws = _flaws(judged)
    good = [backup_set for backup_set in judged if backup_set.stamp not in flaws]
    kept = {s.stamp: [*_own_reasons(s, in_use.get(s.stamp), now, include_truncated)] for s in sets}
    unkept = {backup_set.stamp: "no rule keeps it" for backup_set in sets}
    counted = {selection: selection.among(good) for selection in {*map(_Selection.of, judged)}}
    by_rules = {
        selection: rules.reasons({s.stamp: s.created_at for s in counted[selection]}, zone)
        for selection in counted
    }
    scope = " of its database and tables" if len(counted) > 1 else ""
    for backup_set in judged:
        selection = _Selection.of(backup_set)
        newer = [other for other in counted[selection] if other.age > backup_set.age]
        if (flaw := flaws.get(backup_set.stamp)) is None:
            kept[backup_set.stamp] += by_rules[selection][backup_set.stamp]
            if not newer:
                kept[backup_set.stamp].append(f"newest good set{scope}")
            if _is_verified(backup_set) and not any(map(_is_verified, newer)):
                kept[backup_set.stamp].append(f"newest verified set{scope}")
        elif not newer:
            kept[backup_set.stamp].append(f"{flaw}, but no newer set{scope} is good")
        elif rules.is_within(backup_set.created_at, newer[0].created_at, zone):
            kept[backup_set.stamp].append(f"within {rules.keep_within} of the newest good set")
        else:
            unkept[backup_set.stamp] = f"{flaw}, and {newer[0].stamp} is newer and good"
    if not good:
        for reasons in kept.values():
            reasons.append("there is no good set here, so nothing is removed")
    _keep_what_kept_sets_need(sets, kept)
    good_stamps = {backup_set.stamp for backup_set in good}
    return [
        Decision(
            stamp=backup_set.stamp,
            is_good=backup_set.stamp in good_stamps,
            is_kept=bool(kept[backup_set.stamp]),
            reasons=tuple(kept[backup_set.stamp] or [unkept[backup_set.stamp]]),
        )
        for backup_set in sets
    ]


def removal_order(decisions: Sequence[Decision], sets: Sequence[StoredSet]) -> list[Decision]:
    """The decisions on sets that may be removed, in the order of removal: a set before the one it
    builds on, otherwise the oldest first."""
    bases = {backup_set.stamp: backup_set.builds_on for backup_set in sets}
    waiting = [decision for decision in reversed(decisions) if not decision.is_kept]
    ordered: list[Decision] = []
    while waiting:
        needed = {bases[decision.stamp] for decision in waiting}
        # Damaged manifests may build on one another in a cycle.
        ready = [decision for decision in waiting if decision.stamp not in needed] or waiting
        ordered += ready
        waiting = [decision for decision in waiting if decision not in ready]
    return ordered


@dataclass(frozen=True)
class _Selection:
    source: SourceDatabase | None
    tables: frozenset[tuple[str, str]]

    @classmethod
    def of(cls, backup_set: StoredSet) -> _Selection:
        return cls(backup_set.source, frozenset(f.identity for f in backup_set.files))

    def among(self, sets: Sequence[StoredSet]) -> list[StoredSet]:
        """The sets of that database that have all of the tables."""
        of_source = [s for s in sets if s.source == self.source]
        return [s for s in of_source if self.tables <= _Selection.of(s).tables]


def _is_verified(backup_set: StoredSet) -> bool:
    verified, drill = backup_set.verified, backup_set.drill
    return verified is not None and verified.passed and (drill is None or drill.passed)


def _flaws(judged: Sequence[StoredSet]) -> dict[str, str]:
    """Why sets are not good, by their timestamps."""
    flaws = {s.stamp: flaw for s in judged if (flaw := _own_flaw(s)) is not None}
    whole = [backup_set for backup_set in judged if backup_set.stamp not in flaws]
    good: set[str | None] = {None}  # Full sets build on nothing.
    while more := {s.stamp for s in whole if s.builds_on in good and s.stamp not in good}:
        good |= more
    for backup_set in whole:
        if backup_set.stamp not in good:
            base = backup_set.builds_on
            flaws[backup_set.stamp] = f"{base}, which it builds on, is missing or not good"
    return flaws


def _own_flaw(backup_set: StoredSet) -> str | None:
    if not backup_set.says_complete:
        return "it is incomplete"
    if backup_set.broken_files:
        return f"{', '.join(backup_set.broken_files)} is missing or of another size"
    return "a verification found its files damaged" if backup_set.is_damaged else None


def _own_reasons(
    backup_set: StoredSet, in_use: str | None, now: datetime, include_truncated: bool
) -> Iterator[str]:
    if in_use is not None:
        yield in_use
    if backup_set.source is None:
        yield "its manifest cannot be read"
    if is_in_future(backup_set.created_at, now):
        yield "it was created in the future, so no rule applies to it; check the clocks"
    emptied = ", ".join(file.table for file in backup_set.emptied)
    if emptied and not include_truncated:
        yield f"its run truncated {emptied}, and it may hold the only copy (--include-truncated)"


def _keep_what_kept_sets_need(sets: Sequence[StoredSet], kept: Mapping[str, list[str]]) -> None:
    by_stamp = {backup_set.stamp: backup_set for backup_set in sets}
    waiting = [backup_set for backup_set in sets if kept[backup_set.stamp]]
    while waiting:
        backup_set = waiting.pop()
        builds = "may build" if backup_set.source is None else "builds"
        for stamp in sorted(backup_set.needs & by_stamp.keys()):
            if not kept[stamp]:
                waiting.append(by_stamp[stamp])
            kept[stamp].append(f"{backup_set.stamp} {builds} on it")
