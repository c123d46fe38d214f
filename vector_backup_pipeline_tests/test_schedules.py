"""The schedules, as the settings configure them."""

from datetime import datetime, timezone
from typing import Any

import dagster as dg
import pytest

from vector_backup_pipeline.schedules import SCHEDULES
from vector_backup_pipeline.settings import SettingsError, load_settings


def schedules(**settings: Any) -> dict[str, dg.ScheduleDefinition]:
    defined = [schedule.define(load_settings(**settings)) for schedule in SCHEDULES]
    return {schedule.name: schedule for schedule in defined}


def test_by_default_they_run_at_night_in_utc_and_are_off() -> None:
    defined = schedules()

    assert {name: schedule.cron_schedule for name, schedule in defined.items()} == {
        "daily_backup_schedule": "0 2 * * *",
        "weekly_verify_schedule": "0 4 * * 0",
        "weekly_drill_schedule": "0 5 * * 0",
        "daily_prune_schedule": "30 4 * * *",
    }
    assert {schedule.execution_timezone for schedule in defined.values()} == {"UTC"}
    assert {s.default_status for s in defined.values()} == {dg.DefaultScheduleStatus.STOPPED}


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("daily_backup_schedule", ""),
        ("weekly_verify_schedule", "verify_"),
        ("weekly_drill_schedule", "drill_"),
        ("daily_prune_schedule", "prune_"),
    ],
)
def test_the_settings_decide_time_zone_and_status(name: str, prefix: str) -> None:
    settings = {prefix + "cron": "30 5 * * 1", prefix + "schedule_enabled": True}

    schedule = schedules(timezone="Asia/Shanghai", **settings)[name]

    assert schedule.cron_schedule == "30 5 * * 1"
    assert schedule.execution_timezone == "Asia/Shanghai"
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING


@pytest.mark.parametrize(
    ("name", "run_config"),
    [
        ("daily_backup_schedule", {}),
        ("weekly_drill_schedule", {"timestamp": "latest", "drill": True}),
    ],
)
def test_a_tick_requests_one_run(name: str, run_config: dict[str, Any]) -> None:
    moment = datetime(2025, 7, 21, 2, 0, tzinfo=timezone.utc)
    with dg.build_schedule_context(scheduled_execution_time=moment) as context:
        evaluated = schedules()[name].evaluate_tick(context)

    (request,) = evaluated.run_requests or []
    assert request.run_config == run_config


@pytest.mark.parametrize("field", ["cron", "verify_cron", "drill_cron", "prune_cron"])
@pytest.mark.parametrize("cron", ["daily", "0 25 * * *", "0 2 * *", "* * * * * *", "0 2 30 2 *"])
def test_an_invalid_cron_expression_names_its_variable(field: str, cron: str) -> None:
    with pytest.raises(SettingsError, match=rf"^VECTOR_BACKUP_{field.upper()}: "):
        schedules(**{field: cron})
