"""The schedules: a daily backup, a weekly verification, a weekly restore test, a daily prune, and a
backup per target."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import dagster as dg

from vector_backup_pipeline.engine.catalog.locations import find_directories
from vector_backup_pipeline.engine.errors import BackupError
from vector_backup_pipeline.engine.file_names import stamp_of_manifest
from vector_backup_pipeline.jobs import JOBS
from vector_backup_pipeline.operations import BACKUP, PRUNE, VERIFY, Operation
from vector_backup_pipeline.parameters.types import LATEST
from vector_backup_pipeline.settings import Settings, SettingsError


@dataclass(frozen=True)
class Schedule:
    """A schedule; `cron` and `enabled` are the settings that configure it."""

    name: str
    operation: Operation
    cron: str
    enabled: str
    description: str
    run_config: Mapping[str, object] = field(default_factory=dict)

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
                execution_fn=lambda _: self._requests(settings),
                default_status=status.RUNNING if is_enabled else status.STOPPED,
                description=self.description,
            )
        except dg.DagsterInvalidDefinitionError as error:
            example = Settings.model_fields[self.cron].default
            reason = f"{cron!r} is not a cron expression such as {example!r}"
            if settings.target is not None:
                raise settings.target_error("schedule", reason) from error
            raise SettingsError(self.cron, reason) from error

    def _requests(self, settings: Settings) -> Iterator[dg.RunRequest]:
        """A run for these settings and, unless each target has a schedule of its own, for those of
        each target."""
        covered = [settings]
        if self.operation is not BACKUP:
            covered = [s for s in settings.with_targets() if s.is_used or _has_backups(s)]
        if self.operation is PRUNE:
            # Without rules, a prune fails.
            covered = [owner for owner in covered if owner.keep_rules] or [settings]
        for owner in covered:
            target = {} if owner.target is None else {"target": owner.target}
            run_config = {**self.run_config, **target}
            tags = self.operation.tags(run_config, owner)
            key = owner.target or "the installation"
            yield dg.RunRequest(run_key=key, run_config=run_config, tags=tags)


def _has_backups(settings: Settings) -> bool:
    """Whether the root has a backup set, or cannot be read, which its run then reports."""
    try:
        return any(
            stamp_of_manifest(name, directory.timestamps)
            for _, directory in find_directories(settings.open_root())
            for name in directory.names()
        )
    except BackupError:
        return True


def schedules_of(settings: Settings) -> Iterator[tuple[Schedule, Settings]]:
    """Each schedule with the settings that it is defined by: those of the installation, or of a
    target. Raises `SettingsError` if the file of targets is malformed."""
    for schedule in SCHEDULES:
        yield schedule, settings
    for target in settings.with_targets():
        if target.target is not None and target.schedule_enabled:
            name = f"{target.target.replace('-', '_')}_backup_schedule"
            description = f"Back up the target {target.target}, without truncating."
            yield replace(SCHEDULES[0], name=name, description=description), target


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
        "weekly_drill_schedule",
        VERIFY,
        "drill_cron",
        "drill_schedule_enabled",
        "Restore the newest set of each location into a temporary database, and compare all rows.",
        {"timestamp": LATEST, "drill": True},
    ),
    Schedule(
        "daily_prune_schedule",
        PRUNE,
        "prune_cron",
        "prune_schedule_enabled",
        "Remove the sets that no VECTOR_BACKUP_KEEP_* rule keeps, in all locations.",
    ),
)
