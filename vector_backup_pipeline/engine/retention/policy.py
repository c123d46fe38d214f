"""Which sets stay and which may go, and why: decided from what is known of them, touching nothing.

Whatever the rules say, these stay:

- of each source database, and of each of its selections of tables: the newest good set and the
  newest verified one;
- all that a set which stays builds on;
- a set that may hold the only copy of rows which its run removed from the database;
- a set whose run is at work, and one that is being read;
- what can't be judged: damaged sets and those of the future;
- everything, where no set is good.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Literal

from vector_backup_pipeline.engine.catalog.sources import SourceDatabase
from vector_backup_pipeline.engine.retention.rules import KeepRules


@dataclass(frozen=True)
class StoredSet:
    """What retention has to know of a set. `created_at` in UTC.

    `broken_files` are gone or of another size than they should be. `files_passed` and `passed` are
    of the last verification, None without one. `emptied` are tables whose rows the database may
    not have any more, `tables` those that it has files of. `source` is the database that they came
    from, None if the manifest can't be read. `needs` are the stamps of what it builds
    on, or, of a damaged set, what it mentions: its manifest may be one of a later version.
    """

    stamp: str
    created_at: datetime
    kind: Literal["manifest", "damaged"]
    says_complete: bool
    broken_files: tuple[str, ...] = ()
    files_passed: bool | None = None
    passed: bool | None = None
    emptied: tuple[str, ...] = ()
    tables: frozenset[str] = frozenset()
    source: SourceDatabase | None = None
    needs: frozenset[str] = frozenset()
    is_in_future: bool = False
    is_running: bool = False
    is_being_read: bool = False

    @property
    def age(self) -> tuple[datetime, str]:
        return self.created_at, self.stamp

    @property
    def flaw(self) -> str | None:
        """What keeps it, taken by itself, from being good; None if nothing does."""
        if self.kind == "damaged":
            return "its manifest can't be read"
        if not self.says_complete:
            return "it is incomplete"
        if self.broken_files:
            return f"{', '.join(self.broken_files)} is missing or of another size"
        return "a verification found its files damaged" if self.files_passed is False else None


@dataclass(frozen=True)
class Judgement:
    """A set that is kept, or one that may be removed, and every reason for it."""

    stamp: str
    is_kept: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Verdicts:
    """The judgements of a place, newest set first.

    `vital` are the sets that must still be there when another one is removed. `removable` are the
    stamps of those that may go, in the order in which they have to: what builds on another first.
    """

    judgements: tuple[Judgement, ...]
    vital: frozenset[str]
    removable: tuple[str, ...]


def judge(
    sets: Sequence[StoredSet],
    rules: KeepRules,
    zone: tzinfo,
    *,
    include_truncated: bool = False,
) -> Verdicts:
    """Judge the sets of one place; periods and days are those of `zone`.

    A set counts as good when it says that it is complete, all its files are there, no verification
    found them damaged, and what it builds on is good too. A set is replaced only by sets of the
    same source database that hold all of its tables, and counts with these: a backup of one small
    table replaces none of all, and one of another database none at all.
    """
    newest_first = sorted(sets, key=lambda each: each.age, reverse=True)
    judged = [each for each in newest_first if _is_judged(each)]
    flaws = _flaws(judged)
    good = [each for each in judged if each.stamp not in flaws]
    reasons: dict[str, list[str]] = defaultdict(list)
    if good:
        _keep_by_rules(good, rules, zone, reasons)
        _keep_flawed(judged, good, flaws, rules, zone, reasons)
    vital = _keep_vital(good, reasons)
    for each in newest_first:
        reasons[each.stamp] += _own_reasons(each, include_truncated=include_truncated)
        if not good:
            reasons[each.stamp].append("there is no good set here, so nothing is removed")
    _keep_what_others_need(newest_first, reasons)
    judgements = tuple(_judgement(each, good, flaws, reasons[each.stamp]) for each in newest_first)
    going = [each for each in newest_first if not reasons[each.stamp]]
    return Verdicts(judgements, vital, tuple(_in_removal_order(going)))


def _is_judged(each: StoredSet) -> bool:
    # Made while a clock was wrong, it would be the newest of all for ever.
    return each.kind == "manifest" and not each.is_in_future


def _flaws(judged: Sequence[StoredSet]) -> dict[str, str]:
    """Why sets are not good, by their stamp; those that build on such a set are none either."""
    flaws = {each.stamp: flaw for each in judged if (flaw := each.flaw) is not None}
    good = {each.stamp for each in judged} - flaws.keys()
    # Sets that only lean on each other stand on nothing, so what stands is found from below.
    standing: set[str] = set()
    while rising := {s.stamp for s in judged if s.stamp in good and s.needs <= standing} - standing:
        standing |= rising
    for each in judged:
        if each.stamp in good - standing:
            missing = ", ".join(sorted(each.needs - standing))
            flaws[each.stamp] = f"{missing}, which it builds on, is not there or not good"
    return flaws


@dataclass(frozen=True)
class _Selection:
    """Tables of a source database; none for all of its sets."""

    source: SourceDatabase | None
    tables: frozenset[str] = frozenset()

    def among(self, good: Sequence[StoredSet]) -> list[StoredSet]:
        """The sets that hold all of its tables."""
        return [each for each in good if each.source == self.source and self.tables <= each.tables]


def _selection(each: StoredSet) -> _Selection:
    return _Selection(each.source, each.tables)


def _distinct(selections: Iterable[_Selection]) -> list[_Selection]:
    return list(dict.fromkeys(selections))


def _keep_by_rules(
    good: Sequence[StoredSet], rules: KeepRules, zone: tzinfo, reasons: Mapping[str, list[str]]
) -> None:
    for selection in _distinct(map(_selection, good)):
        counted = selection.among(good)
        kept_by = rules.keeping([each.created_at for each in counted], zone)
        for each, why in zip(counted, kept_by, strict=True):
            if _selection(each) == selection:
                reasons[each.stamp].extend(why)


def _keep_flawed(
    judged: Sequence[StoredSet],
    good: Sequence[StoredSet],
    flaws: Mapping[str, str],
    rules: KeepRules,
    zone: tzinfo,
    reasons: Mapping[str, list[str]],
) -> None:
    """A set that is not good stays until a newer one is, and as long as `keep_within` says."""
    for each in judged:
        if each.stamp not in flaws:
            continue
        counted = _selection(each).among(good)
        if not counted or each.age > counted[0].age:
            of_source = _Selection(each.source).among(good)
            of = " of its tables" if of_source and each.age < of_source[0].age else ""
            of = of or (" of its database" if each.age < good[0].age else "")
            reasons[each.stamp].append(f"{flaws[each.stamp]}, but no newer set{of} is good")
        elif rules.is_within(each.created_at, counted[0].created_at, zone):
            reasons[each.stamp].append(f"within {rules.keep_within} of the newest good set")


def _keep_vital(good: Sequence[StoredSet], reasons: Mapping[str, list[str]]) -> frozenset[str]:
    vital: set[str] = set()
    sources = _distinct(_Selection(each.source) for each in good)
    for selection in (*sources, *_distinct(map(_selection, good))):
        of = " of its database" if len(sources) > 1 else ""
        for stamp, reason in _vital_of(selection.among(good)):
            vital.add(stamp)
            if f"{reason}{of}" not in reasons[stamp]:
                reasons[stamp].append(f"{reason}{' of its tables' if selection.tables else of}")
    return frozenset(vital)


def _vital_of(good: Sequence[StoredSet]) -> Iterator[tuple[str, str]]:
    verified = [each for each in good if each.passed]
    if good:
        yield good[0].stamp, "newest good set"
    if verified:
        only = len(verified) == 1
        yield verified[0].stamp, "only verified set" if only else "newest verified set"


def _own_reasons(each: StoredSet, *, include_truncated: bool) -> Iterator[str]:
    if each.is_running:
        yield "its run is still at work"
    if each.is_being_read:
        yield "a restore or a verification is reading it"
    if each.kind == "damaged":
        yield "its manifest can't be read, so nobody knows which files are its own"
    if each.is_in_future:
        yield "its time lies in the future, so no rule can judge it; check the clocks"
    if each.emptied and not include_truncated:
        yield (
            f"its run emptied {', '.join(each.emptied)}, and it may hold the only copy "
            "(--include-truncated)"
        )


def _keep_what_others_need(sets: Sequence[StoredSet], reasons: Mapping[str, list[str]]) -> None:
    by_stamp = {each.stamp: each for each in sets}
    waiting = [each for each in sets if reasons[each.stamp]]
    while waiting:
        kept = waiting.pop()
        for stamp in sorted((kept.needs & by_stamp.keys()) - {kept.stamp}):
            if not reasons[stamp]:
                waiting.append(by_stamp[stamp])
            mentions = kept.kind == "damaged"
            reasons[stamp].append(
                f"the damaged set {kept.stamp} mentions it"
                if mentions
                else f"{kept.stamp} builds on it"
            )


def _judgement(
    each: StoredSet, good: Sequence[StoredSet], flaws: Mapping[str, str], kept_for: Sequence[str]
) -> Judgement:
    if kept_for:
        return Judgement(each.stamp, True, tuple(kept_for))
    if each.stamp in flaws:
        newer = _selection(each).among(good)[0]
        reason = f"{flaws[each.stamp]}, and {newer.stamp} is newer and good"
    else:
        reason = "no rule keeps it"
    return Judgement(each.stamp, False, (reason,))


def _in_removal_order(going: Sequence[StoredSet]) -> Iterator[str]:
    """Each one after all that build on it, else the oldest first."""
    left = sorted(going, key=lambda each: each.age)
    while left:
        needed = {stamp for each in left for stamp in each.needs - {each.stamp}}
        # Sets that need each other in a ring are good for nothing; some one of them goes first.
        free = [each for each in left if each.stamp not in needed] or left[:1]
        yield from (each.stamp for each in free)
        left = [each for each in left if each not in free]
