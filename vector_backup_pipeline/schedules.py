"""What recurs: the daily backup, the weekly verification, the daily prune."""

from __future__ import annotations

import dagster as dg

from vector_backup_pipeline.jobs.backup import vector_backup_job
from vector_backup_pipeline.jobs.prune import vector_prune_job
from vector_backup_pipeline.jobs.verify import vector_verify_job
from vector_backup_pipeline.settings import Settings, wrong


def make_daily_backup_schedule(settings: Settings) -> dg.ScheduleDefinition:
    """A backup of the settings' tables every time `VECTOR_BACKUP_CRON` says.

    Raises:
        SettingsError: the cron expression does not parse.
    """
    return _schedule(
        "daily_backup_schedule",
        vector_backup_job,
        settings,
        ("CRON", settings.cron, "0 2 * * *"),
        enabled=settings.schedule_enabled,
        description="Back up the vector tables under the root, without truncating.",
    )


def make_weekly_verify_schedule(settings: Settings) -> dg.ScheduleDefinition:
    """A verification of every set every time `VECTOR_BACKUP_VERIFY_CRON` says.

    Raises:
        SettingsError: the cron expression does not parse.
    """
    return _schedule(
        "weekly_verify_schedule",
        vector_verify_job,
        settings,
        ("VERIFY_CRON", settings.verify_cron, "0 4 * * 0"),
        enabled=settings.verify_schedule_enabled,
        description="Read every stored set again and hold it against its manifest.",
    )


def make_daily_prune_schedule(settings: Settings) -> dg.ScheduleDefinition:
    """A prune of every place by the settings' rules every time `VECTOR_BACKUP_PRUNE_CRON` says.

    Raises:
        SettingsError: the cron expression does not parse.
    """
    return _schedule(
        "daily_prune_schedule",
        vector_prune_job,
        settings,
        ("PRUNE_CRON", settings.prune_cron, "30 4 * * *"),
        enabled=settings.prune_schedule_enabled,
        description="Remove the sets that no VECTOR_BACKUP_KEEP_* rule keeps, in every place.",
    )


def _schedule(
    name: str,
    job: dg.JobDefinition,
    settings: Settings,
    cron: tuple[str, str, str],
    *,
    enabled: bool,
    description: str,
) -> dg.ScheduleDefinition:
    """`cron` is the variable, what it says, and an example of what it may say."""
    variable, given, example = cron
    status = dg.DefaultScheduleStatus
    try:
        return dg.ScheduleDefinition(
            name=name,
            job=job,
            cron_schedule=given,
            execution_timezone=settings.timezone,
            run_config={},
            default_status=status.RUNNING if enabled else status.STOPPED,
            description=description,
        )
    except dg.DagsterInvalidDefinitionError as error:
        raise wrong(variable, f"{given!r} is not a cron expression such as {example!r}") from error
