"""Histories of a place, made up: what hypothesis draws its examples from."""

from dataclasses import replace
from datetime import datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from vector_backup_pipeline.engine.catalog.sources import SourceDatabase
from vector_backup_pipeline.engine.retention.policy import StoredSet
from vector_backup_pipeline.engine.retention.rules import KeepRules
from vector_backup_pipeline.parameters.durations import Duration

# Around the day when Berlin's clocks went back: there, an hour comes twice.
_BEGIN = datetime(2025, 10, 1, tzinfo=timezone.utc)
zones: st.SearchStrategy[tzinfo] = st.sampled_from(
    [timezone.utc, ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Shanghai"), ZoneInfo("Pacific/Apia")]
)
_BOTH = frozenset({"a", "b"})
_A, _B = SourceDatabase("7", "a"), SourceDatabase("7", "b")
_few = st.integers(0, 3)
rules = st.builds(
    KeepRules,
    keep_last=_few,
    keep_daily=_few,
    keep_weekly=_few,
    keep_monthly=_few,
    keep_yearly=_few,
    keep_within=st.none() | st.builds(Duration, st.just(0), _few, _few, _few),
).filter(bool)


@st.composite
def histories(draw: st.DrawFn) -> list[StoredSet]:
    """Up to ten sets of all kinds, some at one moment, that may build on one another."""
    hours = draw(st.lists(st.integers(0, 24 * 60), max_size=10))
    stamps = [f"set_{number}" for number in range(len(hours))]
    return [
        draw(_sets(stamp, _BEGIN + timedelta(hours=hour), stamps))
        for stamp, hour in zip(stamps, hours, strict=True)
    ]


@st.composite
def _sets(draw: st.DrawFn, stamp: str, created_at: datetime, stamps: list[str]) -> StoredSet:
    rarely = st.sampled_from([False, False, False, True])
    found = StoredSet(
        stamp,
        created_at,
        kind=draw(st.sampled_from(["manifest", "manifest", "manifest", "damaged"])),
        says_complete=not draw(rarely),
        broken_files=("a.csv",) if draw(rarely) else (),
        files_passed=draw(st.sampled_from([None, None, True, True, False])),
        emptied=("t",) if draw(rarely) else (),
        tables=draw(st.sampled_from([_BOTH, _BOTH, _BOTH, frozenset({"a"}), frozenset({"b"})])),
        source=draw(st.sampled_from([_A, _A, _B])),
        needs=frozenset(draw(st.lists(st.sampled_from([*stamps, "gone"]), max_size=1)))
        if draw(rarely)
        else frozenset(),
        is_in_future=draw(rarely) and draw(rarely),
        is_running=draw(rarely) and draw(rarely),
        is_being_read=draw(rarely) and draw(rarely),
    )
    return replace(found, passed=found.files_passed and draw(st.booleans()))
