"""The daily schedules."""

from datetime import datetime, timezone

import dagster as dg
import pytest

from vector_backup_pipeline.schedules import SCHEDULES
from vector_backup_pipeline.settings import SettingsError, load_settings


def _schedule(**environment: str) -> dg.ScheduleDefinition:
    settings = load_settings({f"VECTOR_BACKUP_{key}": value for key, value in environment.items()})
    return SCHEDULES[0].define(settings)


def test_by_default_it_is_two_o_clock_utc_and_switched_off() -> None:
    schedule = _schedule()

    assert schedule.cron_schedule == "0 2 * * *"
    assert schedule.execution_timezone == "UTC"
    assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED


def test_the_environment_sets_time_zone_and_status() -> None:
    schedule = _schedule(CRON="30 4 * * 1", TIMEZONE="Asia/Shanghai", SCHEDULE_ENABLED="true")

    assert schedule.cron_schedule == "30 4 * * 1"
    assert schedule.execution_timezone == "Asia/Shanghai"
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING


def test_a_tick_asks_for_one_run_with_the_settings_tables() -> None:
    moment = datetime(2025, 7, 21, 2, 0, tzinfo=timezone.utc)
    with dg.build_schedule_context(scheduled_execution_time=moment) as context:
        evaluated = _schedule().evaluate_tick(context)

    (request,) = evaluated.run_requests or []
    assert request.run_config == {}


@pytest.mark.parametrize("cron", ["daily", "0 25 * * *", "0 2 * *", "* * * * * *", "0 2 30 2 *"])
def test_a_cron_expression_that_makes_no_sense_names_its_variable(cron: str) -> None:
    with pytest.raises(SettingsError, match=r"^VECTOR_BACKUP_CRON: "):
        _schedule(CRON=cron)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "Asia", "../etc/passwd", "/etc/localtime", "+8"])
def test_a_time_zone_that_is_none_names_its_variable(zone: str) -> None:
    with pytest.raises(SettingsError, match=r"^VECTOR_BACKUP_TIMEZONE: "):
        _schedule(TIMEZONE=zone)


def _prune_schedule(**environment: str) -> dg.ScheduleDefinition:
    settings = load_settings({f"VECTOR_BACKUP_{key}": value for key, value in environment.items()})
    return SCHEDULES[2].define(settings)


def test_the_prune_follows_the_backup_and_is_switched_off_by_default() -> None:
    schedule = _prune_schedule()
    assert (schedule.name, schedule.cron_schedule) == ("daily_prune_schedule", "30 4 * * *")
    assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED


def test_the_environment_sets_the_prune_s_time_and_status() -> None:
    schedule = _prune_schedule(PRUNE_CRON="0 5 * * *", PRUNE_SCHEDULE_ENABLED="yes")
    assert schedule.cron_schedule == "0 5 * * *"
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
    with pytest.raises(SettingsError, match=r"^VECTOR_BACKUP_PRUNE_CRON: "):
        _prune_schedule(PRUNE_CRON="daily")
