"""The daily backup."""

from __future__ import annotations

import dagster as dg

from vector_backup_pipeline.jobs.backup import vector_backup_job
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
            default_status=dg.DefaultScheduleStatus.RUNNING
            if settings.schedule_enabled
            else dg.DefaultScheduleStatus.STOPPED,
            description="Back up the vector tables under the root, without truncating.",
        )
    except dg.DagsterInvalidDefinitionError as error:
        raise wrong(
            "CRON", f"{settings.cron!r} is not a cron expression such as '0 2 * * *'"
        ) from error
