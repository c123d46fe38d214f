"""Check the parameters of a prune, find the places, fan out one step a place."""

from collections.abc import Iterator

import dagster as dg
from pydantic import Field

from vector_backup_pipeline.engine.retention.request import PruneRequest
from vector_backup_pipeline.engine.retention.rules import Duration
from vector_backup_pipeline.engine.retention.run import LocationToPrune, PruneRun
from vector_backup_pipeline.outcome import failing_step, place_metadata
from vector_backup_pipeline.resources import BackupStorageResource, PruneRunResource
from vector_backup_pipeline.settings import Settings, load_settings


class PruneParameters(dg.Config):
    """What may be asked of a prune."""

    task_id: str | None = Field(
        default=None, description="Prune the sets of this task alone. Default: every place."
    )
    global_only: bool = Field(
        default=False, description="Prune the root's own sets alone, not those of tasks."
    )
    keep_last: int | None = Field(
        default=None,
        description="Keep the newest so many good sets of each place. Default of this and of the "
        "other rules: VECTOR_BACKUP_KEEP_LAST and its like; 0 switches a rule off. A set stays if "
        "any rule keeps it.",
    )
    keep_daily: int | None = Field(
        default=None, description="Keep the newest good set of each of the last so many days."
    )
    keep_weekly: int | None = Field(default=None, description="The same for weeks (ISO).")
    keep_monthly: int | None = Field(default=None, description="The same for months.")
    keep_yearly: int | None = Field(default=None, description="The same for years.")
    keep_within: str | None = Field(
        default=None,
        description="Keep all sets of this time before the newest good one: 14d, 1y6m, 36h; 0d "
        "switches the rule off.",
    )
    include_truncated: bool = Field(
        default=False,
        description="Remove by the rules also sets whose run emptied a table. They may hold the "
        "only copy of its rows.",
    )
    include_orphans: bool = Field(
        default=False, description="Remove also data files that a dead run left without a manifest."
    )
    dry_run: bool = Field(default=False, description="Say what would be done, and do nothing.")

    def request(self, settings: Settings) -> PruneRequest:
        """The parameters, with the settings' rules, checked.

        Raises:
            InvalidParams: one of them does not make sense.
            MissingRequiredParams: nothing says what to keep.
        """
        rules = settings.keep.but(
            keep_last=self.keep_last,
            keep_daily=self.keep_daily,
            keep_weekly=self.keep_weekly,
            keep_monthly=self.keep_monthly,
            keep_yearly=self.keep_yearly,
            keep_within=Duration.parse(self.keep_within) if self.keep_within else None,
        )
        return PruneRequest(
            task_id=self.task_id or None,
            global_only=self.global_only,
            rules=rules,
            include_truncated=self.include_truncated,
            include_orphans=self.include_orphans,
            dry_run=self.dry_run,
        )


@dg.op(out=dg.DynamicOut(LocationToPrune))
def find_prune_locations(
    context: dg.OpExecutionContext,
    config: PruneParameters,
    backup_storage: BackupStorageResource,
    prune_run: PruneRunResource,
) -> Iterator[dg.DynamicOutput[LocationToPrune]]:
    """Find the places; give each to a step of its own."""

    def make_run() -> PruneRun:
        settings = load_settings()
        return PruneRun(
            config.request(settings),
            backup_storage.open_root(settings),
            settings.timestamps,
            run_id=context.run_id,
        )

    with failing_step():
        found = prune_run.begin(make_run).find()
    for each in found:
        yield dg.DynamicOutput(
            each,
            mapping_key=each.key,
            metadata={
                "directory": place_metadata(each.directory),
                "task_id": each.task_id or "none",
            },
        )
