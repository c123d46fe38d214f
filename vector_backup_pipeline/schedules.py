"""What recurs: the daily backup, the weekly verification."""

from __future__ import annotations

import dagster as dg

from vector_backup_pipeline.jobs.backup import vector_backup_job
from vector_backup_pipeline.jobs.verify import vector_verify_job
from vector_backup_pipeline.settings import Settings, wrong


def make_daily_backup_schedule(settings: Settings) -> dg.ScheduleDefinition:
    """A backup of the settings' tables every time `VECTOR_BACKUP_CRON` says.

    Raises:
        SettingsError: the cron expression does not parse.
    """
    try:
        return dg.ScheduleDefinition(
            name="daily_backup_schedule",
            job=vector_backup_job,
            cron_schedule=settings.cron,
            execution_timezone=settings.timezone,
            run_config={},
            default_status=_status(enabled=settings.schedule_enabled),
            description="Back up the vector tables under the root, without truncating.",
        )
    except dg.DagsterInvalidDefinitionError as error:
        raise wrong(
            "CRON", f"{settings.cron!r} is not a cron expression such as '0 2 * * *'"
        ) from error


def make_weekly_verify_schedule(settings: Settings) -> dg.ScheduleDefinition:
    """A verification of every set every time `VECTOR_BACKUP_VERIFY_CRON` says.

    Raises:
        SettingsError: the cron expression does not parse.
    """
    try:
        return dg.ScheduleDefinition(
            name="weekly_verify_schedule",
            job=vector_verify_job,
            cron_schedule=settings.verify_cron,
            execution_timezone=settings.timezone,
            run_config={},
            default_status=_status(enabled=settings.verify_schedule_enabled),
            description="Read every stored set again and hold it against its manifest.",
        )
    except dg.DagsterInvalidDefinitionError as error:
        raise wrong(
            "VERIFY_CRON", f"{settings.verify_cron!r} is not a cron expression such as '0 4 * * 0'"
        ) from error


def _status(*, enabled: bool) -> dg.DefaultScheduleStatus:
    return dg.DefaultScheduleStatus.RUNNING if enabled else dg.DefaultScheduleStatus.STOPPED
