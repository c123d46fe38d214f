"""Whatever the history, what must stay stays; and each set says why it does or does not."""

from dataclasses import replace
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vector_backup_pipeline.engine.catalog.sources import SourceDatabase
from vector_backup_pipeline.engine.retention.policy import StoredSet, Verdicts, judge
from vector_backup_pipeline.engine.retention.rules import RULE_NAMES, KeepRules
from vector_backup_pipeline.parameters.durations import Duration
from vector_backup_pipeline_tests.engine.retention.histories import histories, rules, zones

UTC = timezone.utc
LAST_1 = KeepRules(keep_last=1)
flags = st.booleans()


def _set(day: int, **more: Any) -> StoredSet:
    moment = datetime(2026, 1, 1, 2, tzinfo=UTC) + timedelta(days=day - 1)
    return StoredSet(f"day_{day}", moment, **{"kind": "manifest", "says_complete": True, **more})


def _reasons(verdicts: Verdicts) -> dict[str, tuple[bool, str]]:
    return {j.stamp: (j.is_kept, "; ".join(j.reasons)) for j in verdicts.judgements}


def _kept(verdicts: Verdicts) -> set[str]:
    return {judgement.stamp for judgement in verdicts.judgements if judgement.is_kept}


def _is_whole(each: StoredSet) -> bool:
    return each.says_complete and not each.broken_files and each.files_passed is not False


def _stands(each: StoredSet, sets: dict[str, StoredSet], seen: frozenset[str]) -> bool:
    """Whether all that the set needs is there and whole, down to the ground."""
    return (
        each.kind == "manifest"
        and not each.is_in_future
        and each.stamp not in seen
        and _is_whole(each)
        and all(
            need in sets and _stands(sets[need], sets, seen | {each.stamp}) for need in each.needs
        )
    )


@given(histories(), rules, zones, flags)
def test_the_promises_hold(
    history: list[StoredSet], keep: KeepRules, zone: tzinfo, truncated: bool
) -> None:
    verdicts = judge(history, keep, zone, include_truncated=truncated)

    kept, sets = _kept(verdicts), {each.stamp: each for each in history}
    by_age = sorted(history, key=lambda each: (each.created_at, each.stamp), reverse=True)
    good = [each for each in by_age if _stands(each, sets, frozenset())]
    assert sorted(j.stamp for j in verdicts.judgements) == sorted(sets)
    assert all(judgement.reasons for judgement in verdicts.judgements)
    assert sorted(verdicts.removable) == sorted(sets.keys() - kept)
    if not good:
        assert kept == sets.keys()
        return
    for source in {each.source for each in good}:
        of_source = [each for each in good if each.source == source]
        assert {each.stamp for each in of_source[: max(1, keep.keep_last)]} <= kept
        assert {each.stamp for each in [e for e in of_source if e.passed][:1]} <= kept
    assert verdicts.vital <= kept & {each.stamp for each in good}
    for each in history:
        may_go = (
            each.kind != "damaged"
            and (not each.emptied or truncated)
            and not (each.is_running or each.is_being_read or each.is_in_future)
        )
        assert may_go or each.stamp in kept
        if each.stamp in kept:
            assert each.needs & sets.keys() <= kept
        else:
            # Something newer that stays is good and has all of its tables, so none is lost with it.
            assert any(
                other.created_at >= each.created_at
                and other.tables >= each.tables
                and other.source == each.source
                for other in good
                if other.stamp in kept
            )


@given(histories(), rules, zones, flags)
def test_of_each_of_the_last_days_one_good_set_stays(
    history: list[StoredSet], keep: KeepRules, zone: tzinfo, truncated: bool
) -> None:
    verdicts = judge(history, keep, zone, include_truncated=truncated)

    sets, kept = {each.stamp: each for each in history}, _kept(verdicts)
    good = [each for each in history if _stands(each, sets, frozenset())]
    for number, period in ((keep.keep_daily, "%Y%m%d"), (keep.keep_yearly, "%Y")):
        periods = {each.stamp: f"{each.created_at.astimezone(zone):{period}}" for each in good}
        wanted = sorted(set(periods.values()), reverse=True)[:number]
        assert set(wanted) <= {periods[stamp] for stamp in kept & periods.keys()}


@given(histories(), rules, zones, flags)
def test_what_was_kept_once_is_kept_again(
    history: list[StoredSet], keep: KeepRules, zone: tzinfo, truncated: bool
) -> None:
    kept = _kept(judge(history, keep, zone, include_truncated=truncated))

    again = judge([e for e in history if e.stamp in kept], keep, zone, include_truncated=truncated)

    assert _kept(again) == kept


@given(histories(), rules, rules, zones)
def test_one_more_rule_never_removes_more(
    history: list[StoredSet], keep: KeepRules, more: KeepRules, zone: tzinfo
) -> None:
    numbers = {name: max(getattr(keep, name), getattr(more, name)) for name in RULE_NAMES}
    both = KeepRules(**numbers, keep_within=keep.keep_within or more.keep_within)
    assert _kept(judge(history, keep, zone)) <= _kept(judge(history, both, zone))


@given(histories(), rules, zones)
def test_what_builds_on_a_set_goes_before_it(
    history: list[StoredSet], keep: KeepRules, zone: tzinfo
) -> None:
    # Without rings, whose sets have no first one.
    straight = [
        replace(each, needs=frozenset(need for need in each.needs if need < each.stamp))
        for each in history
    ]
    order = judge(straight, keep, zone, include_truncated=True).removable
    for each in straight:
        for need in each.needs & set(order):
            assert each.stamp not in order or order.index(each.stamp) < order.index(need)


def test_every_set_says_why_it_stays_or_goes() -> None:
    history = [
        _set(1),
        _set(2, passed=True, files_passed=True),
        _set(3, says_complete=False),
        _set(4, emptied=("t",)),
        _set(6, kind="damaged", says_complete=False),
        _set(7, files_passed=False, passed=False),
        _set(8, broken_files=("t_8.csv",)),
        _set(9, is_being_read=True),
        _set(10),
        _set(11, says_complete=False),
    ]
    assert _reasons(judge(history, LAST_1, UTC)) == {
        "day_1": (False, "no rule keeps it"),
        "day_2": (True, "only verified set"),
        "day_3": (False, "it is incomplete, and day_10 is newer and good"),
        "day_4": (
            True,
            "its run emptied t, and it may hold the only copy (--include-truncated)",
        ),
        "day_6": (True, "its manifest can't be read, so nobody knows which files are its own"),
        "day_7": (
            False,
            "a verification found its files damaged, and day_10 is newer and good",
        ),
        "day_8": (
            False,
            "t_8.csv is missing or of another size, and day_10 is newer and good",
        ),
        "day_9": (True, "a restore or a verification is reading it"),
        "day_10": (True, "one of the last 1; newest good set"),
        "day_11": (True, "it is incomplete, but no newer set is good"),
    }


def test_all_that_a_kept_set_builds_on_stays() -> None:
    chain = [_set(1), *(_set(day, needs=frozenset({f"day_{day - 1}"})) for day in (2, 3)), _set(4)]

    kept_by_chain = _reasons(judge(chain[:3], LAST_1, UTC))

    assert kept_by_chain["day_1"] == (True, "day_2 builds on it")
    assert kept_by_chain["day_2"] == (True, "day_3 builds on it")
    # With the chain's end, all of it may go, from its end on.
    assert judge(chain, LAST_1, UTC).removable == ("day_3", "day_2", "day_1")


def test_a_set_that_builds_on_a_lost_one_is_not_good() -> None:
    history = [_set(1), _set(2, needs=frozenset({"lost"})), _set(3, needs=frozenset({"day_2"}))]
    verdicts = judge(history, LAST_1, UTC)
    assert verdicts.vital == {"day_1"}
    assert _reasons(verdicts)["day_2"] == (
        True,
        "lost, which it builds on, is not there or not good, but no newer set is good; "
        "day_3 builds on it",
    )


def test_what_a_damaged_set_mentions_stays() -> None:
    history = [_set(1), _set(2, kind="damaged", needs=frozenset({"day_1"})), _set(3)]
    assert _reasons(judge(history, LAST_1, UTC))["day_1"] == (
        True,
        "the damaged set day_2 mentions it",
    )


def test_without_a_good_set_nothing_goes() -> None:
    history = [_set(day, says_complete=False) for day in (1, 2)]
    verdicts = judge(history, LAST_1, UTC)
    assert verdicts.removable == ()
    assert verdicts.vital == frozenset()


def test_an_incomplete_set_is_kept_as_long_as_keep_within_says() -> None:
    history = [_set(1, says_complete=False), _set(5, says_complete=False), _set(10)]
    told = _reasons(judge(history, KeepRules(keep_within=Duration.parse("7d")), UTC))
    assert told["day_5"] == (True, "within 7d of the newest good set")
    assert told["day_1"][0] is False


@pytest.mark.parametrize("state", [{"is_running": True}, {"is_being_read": True}])
def test_what_is_in_use_stays(state: dict[str, bool]) -> None:
    assert judge([_set(1, **state), _set(2)], LAST_1, UTC).removable == ()


ALL, SMALL = frozenset({"public.large", "public.small"}), frozenset({"public.small"})


def test_backups_of_a_small_table_push_out_none_of_all_tables() -> None:
    history = [
        _set(1, tables=ALL, passed=True, files_passed=True),
        _set(2, tables=ALL),
        _set(3, tables=SMALL, passed=True, files_passed=True),
        _set(4, tables=SMALL),
    ]
    assert _reasons(judge(history, LAST_1, UTC)) == {
        "day_4": (True, "one of the last 1; newest good set"),
        "day_3": (True, "newest verified set"),
        "day_2": (True, "one of the last 1; newest good set of its tables"),
        "day_1": (True, "only verified set of its tables"),
    }


def test_a_backup_of_all_tables_replaces_those_of_some() -> None:
    history = [_set(1, tables=SMALL), _set(2, tables=ALL), _set(3, tables=ALL)]
    assert _kept(judge(history, LAST_1, UTC)) == {"day_3"}


A, B = SourceDatabase("7", "a"), SourceDatabase("7", "b")


def test_sets_of_another_database_replace_none() -> None:
    history = [
        _set(1, tables=SMALL, source=A, passed=True, files_passed=True),
        _set(2, tables=SMALL, source=A),
        _set(3, tables=SMALL, source=A, says_complete=False),
        _set(4, tables=ALL, source=B),
        _set(5, tables=ALL, source=B),
    ]
    assert _reasons(judge(history, LAST_1, UTC)) == {
        "day_5": (True, "one of the last 1; newest good set of its database"),
        "day_4": (False, "no rule keeps it"),
        "day_3": (True, "it is incomplete, but no newer set of its database is good"),
        "day_2": (True, "one of the last 1; newest good set of its database"),
        "day_1": (True, "only verified set of its database"),
    }


def test_a_set_that_is_not_good_is_replaced_by_one_with_its_tables_alone() -> None:
    history = [_set(1, tables=ALL, says_complete=False), _set(2, tables=SMALL)]
    told = _reasons(judge(history, LAST_1, UTC))
    assert told["day_1"] == (True, "it is incomplete, but no newer set of its tables is good")
    assert _kept(judge([*history, _set(3, tables=ALL)], LAST_1, UTC)) == {"day_3"}
