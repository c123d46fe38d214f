"""What a caller may ask of a prune, checked once for every door."""

from __future__ import annotations

from dataclasses import dataclass

from vector_backup_pipeline.engine.errors import InvalidParams, MissingRequiredParams
from vector_backup_pipeline.engine.parameters import check_task_id
from vector_backup_pipeline.engine.retention.rules import KeepRules


@dataclass(frozen=True)
class PruneRequest:
    """The parameters of one prune, checked. Without `task_id` and `global_only` every place under
    the root is meant, each by itself."""

    task_id: str | None
    global_only: bool
    rules: KeepRules
    include_truncated: bool = False
    include_orphans: bool = False
    dry_run: bool = False

    def __post_init__(self) -> None:
        check_task_id(self.task_id)
        if self.task_id is not None and self.global_only:
            raise InvalidParams(
                "task_id and global_only were both given: backups of a task are not the global "
                "ones. Give one of them."
            )
        if not self.rules:
            raise MissingRequiredParams(
                "No rule says which sets to keep, and without one hardly any would be. Give "
                "keep_last, keep_daily, keep_weekly, keep_monthly, keep_yearly (above 0) or "
                "keep_within (such as 14d), or set VECTOR_BACKUP_KEEP_LAST and its like."
            )

    @property
    def is_of_everything(self) -> bool:
        return self.task_id is None and not self.global_only
