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

    keep_last: _Number = Field(None, examples=[7])
    """Keep the newest N good sets. A set is kept if any rule keeps it; 0 disables a rule."""
    keep_daily: _Number = Field(None, examples=[7])
    """Keep the newest good set of each of N days."""
    keep_weekly: _Number = Field(None, examples=[5])
    """Keep the newest good set of each of N ISO weeks."""
    keep_monthly: _Number = Field(None, examples=[12])
    """Keep the newest good set of each of N months."""
    keep_yearly: _Number = Field(None, examples=[3])
    """Keep the newest good set of each of N years."""
    keep_within: Annotated[str | None, Shown(default="the setting VECTOR_BACKUP_KEEP_*")] = Field(
        None, pattern=DURATION_PATTERN, examples=["14d"]
    )
    """Keep all sets made within this time before the newest good one: years, months, days and
    hours, such as 14d, 1y6m or 36h; 0d disables the rule."""
    include_truncated: bool = False
    """Also apply the rules to sets whose run truncated a table. They may hold the only copy of its
    rows."""
    include_orphans: bool = False
    """Also remove data files without a manifest, left by dead runs."""
    dry_run: Annotated[
        bool,
        Shown("--dry-run/--yes", "Report what would be removed, or remove it. Default: --dry-run."),
    ] = False
    """Only report what would be removed."""
