"""Dagster: are runs kept, and will the schedule start them?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice, pairwise

import dagster as dg
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import InstigatorStatus
from dagster._utils.schedules import schedule_execution_time_iterator

from vector_backup_pipeline.engine.checkup.finding import (
    Finding,
    failed,
    failed_with,
    ok,
    skipped,
    warning,
)
from vector_backup_pipeline.engine.errors import InvalidParams
from vector_backup_pipeline.launch import dagster_instance
from vector_backup_pipeline.settings import Settings

_SCHEDULE = "daily_backup_schedule"
_SCHEDULER = "SCHEDULER"
# As many runs of the schedule tell its longest pause, also where it rests over a weekend.
_LOOK_AHEAD = 10


def longest_pause(settings: Settings, since: datetime) -> timedelta:
    """Between two of the next runs of the daily schedule."""
    return max(later - earlier for earlier, later in pairwise(_next_runs(settings, since)))


def check_dagster(settings: Settings | None, now: datetime) -> Iterator[Finding]:
    """Look at the instance of DAGSTER_HOME. Where it has no storage yet, Dagster makes it.

    `settings` is None where they do not tell when the schedule runs.
    """
    if not os.environ.get("DAGSTER_HOME"):
        yield warning(
            "dagster",
            "instance",
            "DAGSTER_HOME is not set: a run of the terminal is forgotten when it is over, and no "
            "schedule can start one",
            "Set DAGSTER_HOME to a directory of Dagster's own; or start backups by cron.",
        )
        yield skipped("dagster", "schedule", "there is no instance")
        return
    try:
        with dagster_instance() as instance:
            schedule = _schedule_finding(instance, settings, now)
            yield ok("dagster", "instance", f"runs are kept in {os.environ['DAGSTER_HOME']}")
    except InvalidParams as error:
        yield failed_with("dagster", "instance", error)
        return
    except Exception as error:  # noqa: BLE001 - of whatever storage Dagster is configured with
        # The first line alone: what follows may repeat the configuration.
        first = (str(error).splitlines() or [""])[0].rstrip(".: ")
        yield failed(
            "dagster",
            "instance",
            f"the instance of DAGSTER_HOME does not open: {type(error).__name__}: {first}",
            "Check its dagster.yaml and the storage that it names: dagster instance info",
        )
        return
    yield schedule


def _schedule_finding(
    instance: dg.DagsterInstance, settings: Settings | None, now: datetime
) -> Finding:
    if settings is None:
        return skipped("dagster", "schedule", "the settings do not tell when it runs")
    when = f"{_next_runs(settings, now)[0]:%Y-%m-%d %H:%M %Z}"
    daemon = instance.get_daemon_statuses().get(_SCHEDULER)
    if not _schedule_is_on(instance, settings):
        return ok(
            "dagster",
            "schedule",
            f"{_SCHEDULE} is off; switched on, it would next run at {when}",
        )
    if daemon is None or not daemon.healthy:
        return warning(
            "dagster",
            "schedule",
            f"{_SCHEDULE} is on, for {when} next, but Dagster's daemon gives no sign of life",
            "Start it: dagster-daemon run -w workspace.yaml",
        )
    return ok("dagster", "schedule", f"{_SCHEDULE} is on and runs next at {when}")


def _schedule_is_on(instance: dg.DagsterInstance, settings: Settings) -> bool:
    """As it was switched in the UI, else as the settings say."""
    states = instance.all_instigator_state(instigator_type=InstigatorType.SCHEDULE)
    switched = {s.status for s in states if s.instigator_name == _SCHEDULE}
    if InstigatorStatus.RUNNING in switched:
        return True
    return InstigatorStatus.STOPPED not in switched and settings.schedule_enabled


def _next_runs(settings: Settings, since: datetime) -> list[datetime]:
    ticks = schedule_execution_time_iterator(
        since.timestamp(), settings.cron, settings.timezone, ascending=True
    )
    return list(islice(ticks, _LOOK_AHEAD))
