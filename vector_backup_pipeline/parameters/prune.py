"""The parameters of a prune."""

from typing import Annotated

from pydantic import Field

from vector_backup_pipeline.parameters.durations import DURATION_PATTERN
from vector_backup_pipeline.parameters.listing import ListParameters
from vector_backup_pipeline.parameters.model import Shown

MAX_KEPT_SETS = 1_000_000

_Number = Annotated[
    int | None, Field(ge=0, le=MAX_KEPT_SETS), Shown(default="the setting VECTOR_BACKUP_KEEP_*")
]


class PruneParameters(ListParameters):
    """The parameters of a prune, of each location separately."""

    keep_last: _Number = Field(
        default=None,
        description="Keep the newest N good sets. A set is kept if any rule keeps it; 0 disables "
        "a rule.",
        examples=[7],
    )
    keep_daily: _Number = Field(
        default=None, description="Keep the newest good set of each of N days.", examples=[7]
    )
    keep_weekly: _Number = Field(
        default=None, description="Keep the newest good set of each of N ISO weeks.", examples=[5]
    )
    keep_monthly: _Number = Field(
        default=None, description="Keep the newest good set of each of N months.", examples=[12]
    )
    keep_yearly: _Number = Field(
        default=None, description="Keep the newest good set of each of N years.", examples=[3]
    )
    keep_within: Annotated[str | None, Shown(default="the setting VECTOR_BACKUP_KEEP_*")] = Field(
        default=None,
        pattern=DURATION_PATTERN,
        description="Keep all sets made within this time before the newest good one: years, "
        "months, days and hours, such as 14d, 1y6m or 36h; 0d disables the rule.",
        examples=["14d"],
    )
    include_truncated: bool = Field(
        default=False,
        description="Also apply the rules to sets whose run truncated a table. They may hold the "
        "only copy of its rows.",
    )
    include_orphans: bool = Field(
        default=False, description="Also remove data files without a manifest, left by dead runs."
    )
    dry_run: Annotated[
        bool,
        Shown("--dry-run/--yes", "Report what would be removed, or remove it. Default: --dry-run."),
    ] = Field(default=False, description="Only report what would be removed.")
