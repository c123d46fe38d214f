"""Timestamps of runs sort by time, fit in file names, and are read back from them."""

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vector_backup_pipeline.engine.errors import InvalidParams
from vector_backup_pipeline.engine.timestamps import DEFAULT_TIMESTAMPS as UTC
from vector_backup_pipeline.engine.timestamps import TimestampFormat

MOMENTS = st.integers(946684800, 4070908800).map(
    lambda seconds: datetime.fromtimestamp(seconds, timezone.utc)
)
USABLE = [
    "%Y%m%d_%H%M%S",
    "%Y-%m-%dT%H-%M-%S",
    "%Y%j_%H%M%S",
    "backup-%Y%m%d%H%M%S",
    "%Y%m%d_%H%M%S_%f",
]


@pytest.mark.parametrize("pattern", USABLE)
@given(earlier=MOMENTS, later=MOMENTS)
def test_stamps_sort_by_time_and_are_recognized_at_the_end_of_a_name(
    pattern: str, earlier: datetime, later: datetime
) -> None:
    stamps = TimestampFormat(pattern, timezone.utc)
    earlier, later = sorted([earlier, later])
    stamp = stamps.stamp(later)

    assert stamps.stamp(earlier) <= stamp
    assert stamps.is_stamp(stamp)
    assert stamps.at_end_of(f"docs_2024_{stamp}") == stamp


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "backup",
        "%Y%m%d",
        "%Y%m%d_%H%M",
        "%H%M%S_%Y%m%d",
        "%d%m%Y_%H%M%S",
        "%Y%m%d_%I%M%S",
        "%Y%b%d_%H%M%S",
        "%Y%-m%-d_%H%M%S",
        "%Y-%m-%d %H:%M:%S",
        "%Y/%m/%d_%H%M%S",
        "../%Y%m%d_%H%M%S",
        "%Y%m%d_%H%M%S.csv",
        "%Y%m%d_%H%M%S%z",
        "%Y%m%d_%H%M%S\n",
        "%c",
        "%s",
    ],
)
def test_a_format_that_would_lose_the_order_or_the_file_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidParams, match="timestamp format"):
        TimestampFormat(pattern, timezone.utc)


def test_a_format_whose_stamps_could_not_be_found_again_is_refused() -> None:
    # CET is shorter than CEST, and Python parses neither.
    with pytest.raises(InvalidParams, match="timestamp format"):
        TimestampFormat("%Y%m%d_%H%M%S_%Z", ZoneInfo("Europe/Berlin"))


def test_a_stamp_is_in_the_time_zone_that_was_set() -> None:
    moment = datetime(2025, 7, 21, 15, 49, 14, tzinfo=timezone.utc)

    assert TimestampFormat("%Y%m%d_%H%M%S", ZoneInfo("Asia/Shanghai")).stamp(moment) == (
        "20250721_234914"
    )
    assert UTC.stamp(moment.astimezone(timezone(timedelta(hours=-5)))) == "20250721_154914"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "latest",
        "20250721",
        "20250721_2349",
        "2025721_234914",
        "20250230_000000",
        "20250721_240000",
        "20250721_234914\n",
        " 20250721_234914",
        "20250721_234914x",
        "２0250721_234914",
    ],
)
def test_what_is_no_stamp_is_not_taken_for_one(text: str) -> None:
    assert not UTC.is_stamp(text)
