"""The parameters of a prune."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator, Field

from vector_backup_pipeline.engine.errors import Problem
from vector_backup_pipeline.parameters.durations import Duration
from vector_backup_pipeline.parameters.model import Parameters, Shown
from vector_backup_pipeline.parameters.types import TaskId

MOST_KEPT = 1_000_000


def _duration(text: str | None) -> str | None:
    if not text:
        return None
    Duration.parse(text)
    return text


def _kept(name: str) -> Shown:
    return Shown(metavar="N", default=f"VECTOR_BACKUP_{name}, else 0")


_Number = Annotated[int | None, Field(ge=0, le=MOST_KEPT)]


class PruneParameters(Parameters):
    """What may be asked of a prune. Without `task_id` and `global_only` it prunes every location
    under the root, each by itself."""

    task_id: Annotated[TaskId, Shown(default="all locations")] = Field(
        default=None, description="Prune only the sets of this task."
    )
    global_only: bool = Field(
        default=False, description="Prune only the root's own sets, not those of tasks."
    )
    keep_last: Annotated[_Number, _kept("KEEP_LAST")] = Field(
        default=None,
        description="Keep the newest N good sets. A set is kept if any rule keeps it; 0 disables "
        "a rule.",
        examples=[7],
    )
    keep_daily: Annotated[_Number, _kept("KEEP_DAILY")] = Field(
        default=None,
        description="Keep the newest good set of each of the last N days.",
        examples=[7],
    )
    keep_weekly: Annotated[_Number, _kept("KEEP_WEEKLY")] = Field(
        default=None,
        description="Keep the newest good set of each of the last N weeks (ISO).",
        examples=[5],
    )
    keep_monthly: Annotated[_Number, _kept("KEEP_MONTHLY")] = Field(
        default=None,
        description="Keep the newest good set of each of the last N months.",
        examples=[12],
    )
    keep_yearly: Annotated[_Number, _kept("KEEP_YEARLY")] = Field(
        default=None,
        description="Keep the newest good set of each of the last N years.",
        examples=[3],
    )
    keep_within: Annotated[
        str | None,
        AfterValidator(_duration),
        Shown(metavar="TIME", default="VECTOR_BACKUP_KEEP_WITHIN, else none"),
    ] = Field(
        default=None,
        description="Keep all sets of this time before the newest good one: years, months, days "
        "and hours, such as 14d, 1y6m or 36h; 0d disables the rule.",
        examples=["14d"],
    )
    include_truncated: bool = Field(
        default=False,
        description="Apply the rules also to sets whose run emptied a table. They may hold the "
        "only copy of its rows.",
    )
    include_orphans: bool = Field(
        default=False, description="Remove also data files that a dead run left without a manifest."
    )
    dry_run: Annotated[
        bool,
        Shown("--dry-run/--yes", "Report what would be removed, or remove it. Default: --dry-run."),
    ] = Field(default=False, description="Only report what would be removed.")

    @property
    def is_of_everything(self) -> bool:
        return self.task_id is None and not self.global_only

    def conflicts(self) -> Iterator[Problem]:
        if self.task_id is not None and self.global_only:
            yield Problem(
                ("task_id", "global_only"),
                "are both given; a task's sets are not the root's own. Give one of them.",
            )
