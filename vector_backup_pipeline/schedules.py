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
    try:
        return _schedule(
            "daily_backup_schedule",
            vector_backup_job,
            settings.cron,
            settings,
            enabled=settings.schedule_enabled,
            description="Back up the vector tables under the root, without truncating.",
        )
    except dg.DagsterInvalidDefinitionError as error:
        raise _no_cron("CRON", settings.cron, "0 2 * * *") from error


def make_weekly_verify_schedule(settings: Settings) -> dg.ScheduleDefinition:
    """A verification of every set every time `VECTOR_BACKUP_VERIFY_CRON` says.

    Raises:
        SettingsError: the cron expression does not parse.
    """
    try:
        return _schedule(
            "weekly_verify_schedule",
            vector_verify_job,
            settings.verify_cron,
            settings,
            enabled=settings.verify_schedule_enabled,
            description="Read every stored set again and hold it against its manifest.",
        )
    except dg.DagsterInvalidDefinitionError as error:
        raise _no_cron("VERIFY_CRON", settings.verify_cron, "0 4 * * 0") from error


def make_daily_prune_schedule(settings: Settings) -> dg.ScheduleDefinition:
    """A prune of every place by the settings' rules every time `VECTOR_BACKUP_PRUNE_CRON` says.

    Raises:
        SettingsError: the cron expression does not parse.
    """
    try:
        return _schedule(
            "daily_prune_schedule",
            vector_prune_job,
            settings.prune_cron,
            settings,
            enabled=settings.prune_schedule_enabled,
            description="Remove the sets that no VECTOR_BACKUP_KEEP_* rule keeps, in every place.",
        )
    except dg.DagsterInvalidDefinitionError as error:
        raise _no_cron("PRUNE_CRON", settings.prune_cron, "30 4 * * *") from error


def _schedule(
    name: str,
    job: dg.JobDefinition,
    cron: str,
    settings: Settings,
    *,
    enabled: bool,
    description: str,
) -> dg.ScheduleDefinition:
    status = dg.DefaultScheduleStatus
    return dg.ScheduleDefinition(
        name=name,
        job=job,
        cron_schedule=cron,
        execution_timezone=settings.timezone,
        run_config={},
        default_status=status.RUNNING if enabled else status.STOPPED,
        description=description,
    )


def _no_cron(variable: str, given: str, example: str) -> Exception:
    return wrong(variable, f"{given!r} is not a cron expression such as {example!r}")
