"""Histories of a location, from which hypothesis draws its examples."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from vector_backup_pipeline.engine.catalog.sources import SourceDatabase
from vector_backup_pipeline.engine.catalog.stored_sets import (
    StoredFile,
    StoredSet,
    Verdict,
)
from vector_backup_pipeline.engine.retention.policy import Decision, decide
from vector_backup_pipeline.engine.retention.rules import KeepRules
from vector_backup_pipeline.parameters.durations import Duration

# Around the day on which Berlin's clocks went back, so that an hour came twice.
_BEGIN = datetime(2025, 10, 1, tzinfo=timezone.utc)
NOW = datetime(2026, 3, 1, tzinfo=timezone.utc)
FUTURE = NOW + timedelta(days=400)
zones: st.SearchStrategy[tzinfo] = st.sampled_from(
    [timezone.utc, ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Shanghai"), ZoneInfo("Pacific/Apia")]
)
A, B = SourceDatabase("7", "a"), SourceDatabase("7", "b")
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


def make_set(
    stamp: str,
    created_at: datetime,
    *,
    tables: str = "ab",
    source: SourceDatabase | None = A,
    verified: bool | None = None,
    drill: bool | None = None,
    broken: bool = False,
    says_complete: bool = True,
    emptied: tuple[str, ...] = (),
    needs: str | None = None,
) -> StoredSet:
    """A set of tables with names of one letter; `broken` if its last file is missing."""
    files = [
        StoredFile(f"{table}_{stamp}.csv", table, "public", table, 1, 9, 9) for table in tables
    ]
    if broken:
        files[-1] = replace(files[-1], stored_bytes=None)
    verdicts = [None if v is None else Verdict(v, created_at) for v in (verified, drill)]
    return StoredSet(
        stamp,
        created_at,
        says_complete,
        tuple(files),
        source,
        truncated=emptied,
        builds_on=None if source is None else needs,
        needs=frozenset({needs} if needs else ()),
        verified=verdicts[0],
        drill=verdicts[1],
    )


@dataclass(frozen=True)
class History:
    sets: list[StoredSet]
    in_use: dict[str, str]

    def decide(
        self, keep: KeepRules, zone: tzinfo = timezone.utc, *, truncated: bool = False
    ) -> list[Decision]:
        now = NOW.astimezone(zone)
        return decide(self.sets, self.in_use, keep, now, include_truncated=truncated)


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Up to ten sets of all kinds, some created at one moment, which may build on one another."""
    hours = draw(st.lists(st.integers(0, 24 * 60), max_size=10))
    stamps = [f"set_{number}" for number in range(len(hours))]
    rarely = st.sampled_from([False, False, False, True])
    sets, in_use = [], {}
    for stamp, hour in zip(stamps, hours, strict=True):
        is_damaged = draw(rarely)
        bases = st.sampled_from([*stamps, "gone"])
        set_ = make_set(
            stamp,
            FUTURE if draw(rarely) and draw(rarely) else _BEGIN + timedelta(hours=hour),
            tables=draw(st.sampled_from(["ab", "ab", "ab", "a", "b"])),
            source=None if is_damaged else draw(st.sampled_from([A, A, B])),
            verified=draw(st.sampled_from([None, None, True, True, False])),
            drill=draw(st.sampled_from([None, None, True, False])),
            broken=draw(rarely),
            says_complete=not (is_damaged or draw(rarely)),
            emptied=("a", "b") if draw(rarely) and not is_damaged else (),
            needs=draw(bases) if draw(rarely) else None,
        )
        sets.append(set_)
        if draw(rarely) and draw(rarely):
            in_use[stamp] = "a run uses it"
    return History(sets, in_use)
