"""The room for the next backup, the backups that are there, the time zone."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from vector_backup_pipeline.engine.catalog.sources import SourceDatabase
from vector_backup_pipeline.engine.checkup.backups import check_backups
from vector_backup_pipeline.engine.checkup.clock import check_clock
from vector_backup_pipeline.engine.checkup.space import check_space
from vector_backup_pipeline.engine.storage.local import LocalRoot
from vector_backup_pipeline.engine.timestamps import DEFAULT_TIMESTAMP_FORMAT, TimestampFormat
from vector_backup_pipeline_tests.fix_checkup import Checker, Found
from vector_backup_pipeline_tests.fix_sets import SetWriter

NOON = datetime(2025, 1, 10, 12, tzinfo=timezone.utc)
GB = 1 << 30


class _Root(LocalRoot):
    """With that much room."""

    def __init__(self, free: int | None) -> None:
        super().__init__("/srv/backups", "vector_bak")
        self._free = free

    def free_bytes(self) -> int:
        return self._free  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("free", "expected", "newest", "status"),
    [
        (10 * GB, 4 * GB, 1 * GB, "ok"),
        (10 * GB, 6 * GB, None, "warning"),
        (10 * GB, 1 * GB, 6 * GB, "warning"),
        (10 * GB, 11 * GB, 1 * GB, "failed"),
        (10 * GB, None, 11 * GB, "failed"),
        (10 * GB, None, None, "skipped"),
        (0, 1, None, "failed"),
        (None, 11 * GB, 11 * GB, "ok"),
    ],
)
def test_the_room_is_held_against_the_larger_of_estimate_and_newest_backup(
    free: int | None, expected: int | None, newest: int | None, status: str
) -> None:
    found = check_space(_Root(free), expected, newest)

    assert found.status == status
    if status in ("failed", "warning"):
        assert "VECTOR_BACKUP_ROOT" in str(found.advice)
        assert "the next backup takes about" in found.message


def backups(check: Checker, *, now: datetime = NOON, **changed: object) -> Found:
    return Found(check_backups(check.plan(None, now=lambda: now, **changed), None).findings)


@pytest.fixture
def sets(check: Checker) -> SetWriter:
    return SetWriter(check.root / "vector_bak")


def test_without_a_backup_nothing_is_wrong(check: Checker) -> None:
    assert backups(check)["backups: newest"].status == "ok"


def test_the_newest_good_backup_is_told_with_its_age_size_and_verdict(
    check: Checker, sets: SetWriter
) -> None:
    sets.write("20250109_120000")
    sets.write("20250110_000000")

    report = check_backups(check.plan(None, now=lambda: NOON), None)

    (told,) = report.findings
    assert told.status == "ok"
    assert "20250110_000000, 12.0 hours old, never verified" in told.message
    files = sets.path.glob("*_20250110_000000.csv")
    assert report.newest_size == sum(path.stat().st_size for path in files)
    sets.file(
        "vector_backup_20250110_000000.verified.json",
        b'{"passed": true, "verified_at": "2025-01-10T10:00:00Z"}',
    )
    assert "verified on 2025-01-10" in backups(check)["backups: newest"].message


def test_the_newest_good_backup_is_that_of_this_database(check: Checker, sets: SetWriter) -> None:
    sets.write("20250109_120000", database="ours", server="7")
    sets.write("20250110_000000", database="theirs", server="7")

    def newest(source: SourceDatabase) -> str:
        report = check_backups(check.plan(None, now=lambda: NOON), source)
        return Found(report.findings)["backups: newest"].message

    assert "20250109_120000" in newest(SourceDatabase("7", "ours"))
    assert "only of ours, theirs" in newest(SourceDatabase("7", "new"))


def test_a_backup_older_than_two_periods_is_a_warning(check: Checker, sets: SetWriter) -> None:
    sets.write("20250108_110000")

    assert backups(check)["backups: newest"].status == "warning"
    at_once = NOON - timedelta(hours=12)
    assert backups(check, now=at_once)["backups: newest"].status == "ok"
    assert backups(check, expected_every=timedelta(days=7))["backups: newest"].status == "ok"
    assert backups(check, expected_every=None)["backups: newest"].status == "ok"


def test_a_newer_one_that_is_damaged_does_not_count_and_is_told(
    check: Checker, sets: SetWriter
) -> None:
    sets.write("20250110_000000")
    sets.write("20250110_010000")
    sets.file("vector_backup_20250110_020000.json", b"{")
    next(sets.path.glob("langchain_pg_embedding_20250110_010000.csv")).unlink()

    found = backups(check)

    assert "20250110_000000" in found["backups: newest"].message
    assert found["backups: damaged"].status == "warning"
    assert "20250110_020000, 20250110_010000" in found["backups: damaged"].message


def test_a_backup_of_the_future_is_a_warning(check: Checker, sets: SetWriter) -> None:
    sets.write("20250110_140000")

    assert "20250110_140000" in backups(check)["backups: future"].message


def test_the_stamp_of_the_next_file_is_told_in_the_settings_time_zone(check: Checker) -> None:
    timestamps = TimestampFormat(DEFAULT_TIMESTAMP_FORMAT, ZoneInfo("Asia/Shanghai"))
    plan = check.plan(None, now=lambda: NOON, timestamps=timestamps)

    told = Found(list(check_clock(plan, None, None)))["clock: time zone"].message

    assert "2025-01-10 20:00:00 in Asia/Shanghai (UTC+0800)" in told
    assert told.endswith("20250110_200000")


def test_settings_that_do_not_tell_leave_it_untried(check: Checker) -> None:
    found = backups(check, timestamps=None)

    assert found["backups: newest"].status == "skipped"
