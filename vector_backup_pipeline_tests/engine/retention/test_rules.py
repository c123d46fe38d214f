"""The rules: a number of sets, one per calendar period, and all within a time."""

from datetime import datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vector_backup_pipeline.engine.errors import InvalidParams, MissingRequiredParams
from vector_backup_pipeline.engine.retention.rules import KeepRules
from vector_backup_pipeline.parameters.durations import Duration
from vector_backup_pipeline.parameters.prune import PruneParameters

UTC = timezone.utc
BERLIN = ZoneInfo("Europe/Berlin")


def _at(text: str, zone: tzinfo = UTC) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone).astimezone(UTC)


def _kept(rules: KeepRules, moments: list[datetime], zone: tzinfo = UTC) -> list[datetime]:
    by_stamp = {moment.isoformat(): moment for moment in moments}
    return [by_stamp[stamp] for stamp, reasons in rules.reasons(by_stamp, zone).items() if reasons]


@pytest.mark.parametrize(
    ("text", "begin"),
    [
        ("14d", "2026-03-17T12:00"),
        ("36h", "2026-03-30T00:00"),
        ("1m", "2026-02-28T12:00"),
        ("13m", "2025-02-28T12:00"),
        ("1y1m1d1h", "2025-02-27T11:00"),
        ("2y", "2024-03-31T12:00"),
    ],
)
def test_a_duration_is_counted_by_the_calendar(text: str, begin: str) -> None:
    assert Duration.parse(text).before(_at("2026-03-31T12:00"), UTC) == _at(begin)


def test_a_day_is_one_on_the_wall_however_many_hours_it_has() -> None:
    # The clocks of Berlin went forward in the night to the 29th.
    noon = _at("2026-03-29T12:00", BERLIN)
    assert Duration.parse("1d").before(noon, BERLIN) == noon - timedelta(hours=23)
    assert Duration.parse("24h").before(noon, BERLIN) == noon - timedelta(hours=24)


@pytest.mark.parametrize("text", ["9999y", "999999m", "999999d", "2026y", "2025y999999h"])
def test_a_time_longer_than_all_years_keeps_everything(text: str) -> None:
    rules = KeepRules(keep_within=Duration.parse(text))
    moments = [_at("2026-03-31T12:00"), _at("1970-01-01T00:00")]
    assert _kept(rules, moments) == moments


@pytest.mark.parametrize("text", ["", "14", "d", "14 d", "14D", "-1d", "1.5d", "14d\n", "٣d"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time such as 14d"):
        Duration.parse(text)


@given(st.tuples(*[st.integers(0, 999)] * 4))
def test_a_duration_is_written_as_it_is_read(numbers: tuple[int, int, int, int]) -> None:
    duration = Duration(*numbers)
    assert Duration.parse(str(duration)) == duration


@pytest.mark.parametrize(
    ("rules", "kept"),
    [
        (KeepRules(keep_daily=2), ["2026-03-02T23:00", "2026-03-01T12:00"]),
        (KeepRules(keep_weekly=2), ["2026-03-02T23:00", "2026-03-01T12:00"]),
        (KeepRules(keep_monthly=2), ["2026-03-02T23:00", "2026-02-28T12:00"]),
        (KeepRules(keep_yearly=9), ["2026-03-02T23:00", "2025-12-31T12:00"]),
    ],
)
def test_of_each_period_the_newest_is_kept(rules: KeepRules, kept: list[str]) -> None:
    moments = [
        _at(text)
        for text in (
            "2026-03-02T23:00",
            "2026-03-02T01:00",
            "2026-03-01T12:00",
            "2026-02-28T12:00",
            "2026-01-05T12:00",
            "2025-12-31T12:00",
            "2025-12-30T12:00",
        )
    ]
    assert _kept(rules, moments) == [_at(text) for text in kept]


def test_within_is_counted_from_the_newest_and_not_from_today() -> None:
    moments = [_at("2020-01-15T00:00"), _at("2020-01-02T00:00"), _at("2020-01-01T00:00")]
    assert _kept(KeepRules(keep_within=Duration.parse("14d")), moments) == moments[:2]


def test_a_callers_rules_replace_the_settings() -> None:
    settings = KeepRules(keep_last=7, keep_daily=3, keep_within=Duration.parse("14d"))

    rules = settings.overridden_by(PruneParameters(keep_daily=0, keep_within="0d"))

    assert str(rules) == "keep_last 7"
    assert (
        str(settings.overridden_by(PruneParameters()))
        == "keep_last 7, keep_daily 3, keep_within 14d"
    )
    with pytest.raises(MissingRequiredParams):
        settings.overridden_by(PruneParameters(keep_last=0, keep_daily=0, keep_within="0h"))


def test_a_negative_number_is_refused() -> None:
    with pytest.raises(InvalidParams, match=r"^keep_weekly"):
        PruneParameters(keep_weekly=-1)
