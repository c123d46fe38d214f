"""What a caller may ask of a verification, checked once for every door."""

from __future__ import annotations

from dataclasses import dataclass, field

from vector_backup_pipeline.engine.errors import InvalidParams
from vector_backup_pipeline.engine.parameters import (
    MOST_WORKERS,
    check_at_least_one,
    check_task_id,
)
from vector_backup_pipeline.engine.restore.request import MOST_PROBES


@dataclass(frozen=True)
class VerifyRequest:
    """The parameters of one verification, checked.

    `timestamp` None means every set; `backup_path` and `task_id` None every place under the root.
    The scratch connection of a drill is not among them: it is a secret.
    """

    timestamp: str | None
    source_database: str | None = field(default=None, kw_only=True)
    backup_path: str | None
    task_id: str | None
    drill: bool
    workers: int
    probes: int

    def __post_init__(self) -> None:
        check_task_id(self.task_id)
        if self.task_id is not None and self.backup_path is not None:
            raise InvalidParams(
                "task_id and backup_path are both given; task_id is short for a path. Give one."
            )
        check_at_least_one("workers", self.workers)
        if self.workers > MOST_WORKERS:
            raise InvalidParams(f"workers is {self.workers}; at most {MOST_WORKERS} are allowed.")
        if not 0 <= self.probes <= MOST_PROBES:
            raise InvalidParams(
                f"probes is {self.probes}; it must be from 0 (none) to {MOST_PROBES}."
            )

    @property
    def names_a_place(self) -> bool:
        return self.task_id is not None or self.backup_path is not None
