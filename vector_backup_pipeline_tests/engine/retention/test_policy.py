"""A prune keeps what it must in any history, and each decision has reasons."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from vector_backup_pipeline.engine.catalog.stored_sets import StoredSet
from vector_backup_pipeline.engine.retention.policy import Decision, removal_order
from vector_backup_pipeline.engine.retention.rules import RULE_NAMES, KeepRules
from vector_backup_pipeline.parameters.durations import Duration
from vector_backup_pipeline_tests.engine.retention.histories import (
    NOW,
    A,
    B,
    History,
    histories,
    make_set,
    rules,
    zones,
)

UTC = timezone.utc
LAST_1 = KeepRules(keep_last=1)
flags = st.booleans()


def _set(day: int, **more: Any) -> StoredSet:
    moment = datetime(2026, 1, 1, 2, tzinfo=UTC) + timedelta(days=day - 1)
    return make_set(f"day_{day}", moment, **more)


def _decide(
    *sets: StoredSet, keep: KeepRules = LAST_1, in_use: str | None = None
) -> dict[str, tuple[bool, str]]:
    uses = {in_use: "its run is active"} if in_use else {}
    decisions = History(list(sets), uses).decide(keep)
    return {
        decision.stamp: (decision.is_kept, "; ".join(decision.reasons)) for decision in decisions
    }


def _kept(decisions: Sequence[Decision]) -> set[str]:
    return {decision.stamp for decision in decisions if decision.is_kept}


def _is_good(backup_set: StoredSet, sets: dict[str, StoredSet], visited: frozenset[str]) -> bool:
    """Whether the set and all that it builds on are complete."""
    verified = backup_set.verified
    return (
        backup_set.source is not None
        and backup_set.created_at <= NOW
        and backup_set.stamp not in visited
        and backup_set.says_complete
        and not backup_set.broken_files
        and (verified is None or verified.passed)
        and (
            backup_set.builds_on is None
            or (
                backup_set.builds_on in sets
                and _is_good(sets[backup_set.builds_on], sets, visited | {backup_set.stamp})
            )
        )
    )


def _tables(backup_set: StoredSet) -> set[str]:
    return {file.table_name for file in backup_set.files}


@given(histories(), rules, zones, flags)
def test_what_must_be_kept_is_kept(
    history: History, keep: KeepRules, zone: tzinfo, truncated: bool
) -> None:
    decisions = history.decide(keep, zone, truncated=truncated)

    kept, sets = _kept(decisions), {backup_set.stamp: backup_set for backup_set in history.sets}
    by_age = sorted(history.sets, key=lambda backup_set: backup_set.age, reverse=True)
    good = [backup_set for backup_set in by_age if _is_good(backup_set, sets, frozenset())]
    assert [decision.stamp for decision in decisions] == [backup_set.stamp for backup_set in by_age]
    assert all(decision.reasons for decision in decisions)
    assert {d.stamp for d in decisions if d.is_good} == {backup_set.stamp for backup_set in good}
    if not good:
        assert kept == sets.keys()
        return
    _check_periods(kept, good, keep, zone)
    for backup_set in history.sets:
        # Good sets of its database with all of its tables.
        counted = [
            other
            for other in good
            if other.source == backup_set.source and _tables(other) >= _tables(backup_set)
        ]
        verified = [
            other
            for other in counted
            if (v := other.verified) and v.passed and (other.drill is None or other.drill.passed)
        ]
        if backup_set in counted[: max(1, keep.keep_last)] or backup_set in verified[:1]:
            assert backup_set.stamp in kept
        if (
            backup_set.source is None
            or (backup_set.emptied and not truncated)
            or backup_set.created_at > NOW
            or backup_set.stamp in history.in_use
        ):
            assert backup_set.stamp in kept
        if backup_set.stamp in kept:
            assert backup_set.needs & sets.keys() <= kept
        else:
            # A newer good set that is kept has all of its tables, so none is lost.
            assert any(other.age > backup_set.age and other.stamp in kept for other in counted)


def _check_periods(
    kept: set[str], good: Sequence[StoredSet], keep: KeepRules, zone: tzinfo
) -> None:
    """One set is kept for each of the last periods that have good sets."""
    for number, period in (
        (keep.keep_daily, "%Y%m%d"),
        (keep.keep_weekly, "%G%V"),
        (keep.keep_monthly, "%Y%m"),
        (keep.keep_yearly, "%Y"),
    ):
        periods = {s.stamp: f"{s.created_at.astimezone(zone):{period}}" for s in good}
        newest = sorted(set(periods.values()), reverse=True)[:number]
        assert set(newest) <= {periods[stamp] for stamp in kept & periods.keys()}


@given(histories(), rules, rules, zones)
def test_one_more_rule_never_removes_more(
    history: History, keep: KeepRules, more: KeepRules, zone: tzinfo
) -> None:
    numbers = {name: max(getattr(keep, name), getattr(more, name)) for name in RULE_NAMES}
    both = KeepRules(**numbers, keep_within=keep.keep_within or more.keep_within)
    assert _kept(history.decide(keep, zone)) <= _kept(history.decide(both, zone))


@given(histories(), rules, zones)
def test_what_builds_on_a_set_is_removed_before_it(
    history: History, keep: KeepRules, zone: tzinfo
) -> None:
    # Without cycles.
    sets = [
        backup_set
        if (backup_set.builds_on or "") < backup_set.stamp
        else replace(backup_set, builds_on=None, needs=frozenset())
        for backup_set in history.sets
    ]
    decisions = replace(history, sets=sets).decide(keep, zone, truncated=True)

    order = [decision.stamp for decision in removal_order(decisions, sets)]

    assert sorted(order) == sorted(
        backup_set.stamp for backup_set in sets if backup_set.stamp not in _kept(decisions)
    )
    for backup_set in sets:
        if backup_set.stamp in order and backup_set.builds_on in order:
            assert order.index(backup_set.stamp) < order.index(backup_set.builds_on)


def test_sets_that_build_on_one_another_in_a_ring_are_removed_too() -> None:
    sets = [_set(1, needs="day_2"), _set(2, needs="day_1"), _set(3)]

    order = removal_order(History(sets, {}).decide(LAST_1), sets)

    assert [decision.stamp for decision in order] == ["day_1", "day_2"]


def test_every_decision_has_its_reasons() -> None:
    history = [
        _set(1),
        _set(2, verified=True),
        _set(3, says_complete=False),
        _set(4, emptied=("b",)),
        _set(6, source=None, says_complete=False),
        _set(7, verified=False),
        _set(8, broken=True),
        _set(9),
        _set(10),
        _set(11, says_complete=False),
        _set(999),
    ]

    assert _decide(*history, in_use="day_9") == {
        "day_1": (False, "no rule keeps it"),
        "day_2": (True, "newest verified set"),
        "day_3": (False, "it is incomplete, and day_10 is newer and good"),
        "day_4": (
            True,
            "its run truncated b, and it may hold the only copy (--include-truncated)",
        ),
        "day_6": (True, "its manifest cannot be read"),
        "day_7": (False, "a verification found its files damaged, and day_10 is newer and good"),
        "day_8": (False, "b_day_8.csv is missing or of another size, and day_10 is newer and good"),
        "day_9": (True, "its run is active"),
        "day_10": (True, "one of the last 1; newest good set"),
        "day_11": (True, "it is incomplete, but no newer set is good"),
        "day_999": (
            True,
            "it was created in the future, so no rule applies to it; check the clocks",
        ),
    }


def test_an_incomplete_set_is_kept_as_long_as_keep_within_says() -> None:
    history = [_set(1, says_complete=False), _set(5, says_complete=False), _set(10)]
    decisions = _decide(*history, keep=KeepRules(keep_within=Duration.parse("7d")))
    assert decisions["day_5"] == (True, "within 7d of the newest good set")
    assert decisions["day_1"][0] is False


def test_only_sets_with_all_tables_of_the_same_database_replace_one() -> None:
    of = "of its database and tables"
    assert _decide(
        _set(1, tables="ab", verified=True),
        _set(2, tables="ab"),
        _set(3, tables="ab", says_complete=False),
        _set(4, tables="a", verified=True),
        _set(5, tables="a"),
        _set(6, tables="ab", source=B),
        _set(7, tables="ab", source=B),
    ) == {
        "day_7": (True, f"one of the last 1; newest good set {of}"),
        "day_6": (False, "no rule keeps it"),
        "day_5": (True, f"one of the last 1; newest good set {of}"),
        "day_4": (True, f"newest verified set {of}"),
        "day_3": (True, f"it is incomplete, but no newer set {of} is good"),
        "day_2": (True, f"one of the last 1; newest good set {of}"),
        "day_1": (True, f"newest verified set {of}"),
    }
    decisions = _decide(_set(1, tables="a", source=A), _set(2, tables="ab", source=A))
    assert [is_kept for is_kept, _ in decisions.values()] == [True, False]
