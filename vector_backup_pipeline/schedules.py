"""The schedules: a daily backup, a weekly verification, a daily prune."""

from dataclasses import dataclass

import dagster as dg

from vector_backup_pipeline.jobs import JOBS
from vector_backup_pipeline.operations import BACKUP, PRUNE, VERIFY, Operation
from vector_backup_pipeline.settings import Settings, SettingsError


@dataclass(frozen=True)
class Schedule:
    """A schedule; `cron` and `enabled` are the settings that configure it."""

    name: str
    operation: Operation
    cron: str
    enabled: str
    description: str

    def define(self, settings: Settings) -> dg.ScheduleDefinition:
        """The definition for Dagster. Raises `SettingsError` if the cron expression is
        malformed."""
        cron, is_enabled = getattr(settings, self.cron), getattr(settings, self.enabled)
        status = dg.DefaultScheduleStatus
        try:
            return dg.ScheduleDefinition(
                name=self.name,
                job=JOBS[self.operation],
                cron_schedule=cron,
                execution_timezone=settings.timezone,
                run_config={},
                default_status=status.RUNNING if is_enabled else status.STOPPED,
                description=self.description,
            )
        except dg.DagsterInvalidDefinitionError as error:
            example = Settings.model_fields[self.cron].default
            reason = f"{cron!r} is not a cron expression such as {example!r}"
            raise SettingsError(self.cron, reason) from error


SCHEDULES = (
    Schedule(
        "daily_backup_schedule",
        BACKUP,
        "cron",
        "schedule_enabled",
        "Back up the vector tables under the root, without truncating.",
    ),
    Schedule(
        "weekly_verify_schedule",
        VERIFY,
        "verify_cron",
        "verify_schedule_enabled",
        "Read all stored sets and compare them with their manifests.",
    ),
    Schedule(
        "daily_prune_schedule",
        PRUNE,
        "prune_cron",
        "prune_schedule_enabled",
        "Remove the sets that no VECTOR_BACKUP_KEEP_* rule keeps, in all locations.",
    ),
)
