"""The schedules: a daily backup, a weekly verification, a daily prune."""

from __future__ import annotations

from dataclasses import dataclass

import dagster as dg

from vector_backup_pipeline.jobs.backup import vector_backup_job
from vector_backup_pipeline.jobs.prune import vector_prune_job
from vector_backup_pipeline.jobs.verify import vector_verify_job
from vector_backup_pipeline.settings import Settings, SettingsError


@dataclass(frozen=True)
class Schedule:
    """A schedule; `cron` and `enabled` are the fields of the settings that configure it."""

    name: str
    job: dg.JobDefinition
    cron: str
    enabled: str
    description: str

    def define(self, settings: Settings) -> dg.ScheduleDefinition:
        """The definition for Dagster.

        Raises:
            SettingsError: the cron expression does not parse.
        """
        cron, status = getattr(settings, self.cron), dg.DefaultScheduleStatus
        try:
            return dg.ScheduleDefinition(
                name=self.name,
                job=self.job,
                cron_schedule=cron,
                execution_timezone=settings.timezone,
                run_config={},
                default_status=status.RUNNING
                if getattr(settings, self.enabled)
                else status.STOPPED,
                description=self.description,
            )
        except dg.DagsterInvalidDefinitionError as error:
            example = Settings.model_fields[self.cron].default
            raise SettingsError(
                self.cron, f"{cron!r} is not a cron expression such as {example!r}"
            ) from error


SCHEDULES = (
    Schedule(
        "daily_backup_schedule",
        vector_backup_job,
        "cron",
        "schedule_enabled",
        "Back up the vector tables under the root, without truncating.",
    ),
    Schedule(
        "weekly_verify_schedule",
        vector_verify_job,
        "verify_cron",
        "verify_schedule_enabled",
        "Read every stored set again and compare it with its manifest.",
    ),
    Schedule(
        "daily_prune_schedule",
        vector_prune_job,
        "prune_cron",
        "prune_schedule_enabled",
        "Remove the sets that no VECTOR_BACKUP_KEEP_* rule keeps, in every location.",
    ),
)
