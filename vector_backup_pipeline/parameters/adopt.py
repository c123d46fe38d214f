"""The parameters of an adoption of the older system's files."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from vector_backup_pipeline.engine.errors import Problem
from vector_backup_pipeline.parameters import types
from vector_backup_pipeline.parameters.model import ANY, Exclusion, Parameters, Shown


class AdoptParameters(Parameters):
    """The parameters of an adoption: one pair of files, or all."""

    EXCLUSIONS = (Exclusion({"timestamp": ANY, "all_pairs": [True]}, "give one of them."),)

    timestamp: str | None = Field(None, examples=["20240102_030405"])
    """Adopt the pair of files of this timestamp."""
    all_pairs: Annotated[bool, Shown("--all")] = False
    """Adopt every adoptable pair."""
    task_id: Annotated[types.TaskId, Shown(default="all locations")] = Field(
        None, description="Adopt only files of this task."
    )
    dry_run: bool = False
    """Read the files, report, and write nothing."""

    def conflicts(self) -> Iterator[Problem]:
        yield from super().conflicts()
        if self.timestamp is None and not self.all_pairs:
            text = "are both missing. Give one of them; vector-backup list shows adoptable files."
            yield Problem(("timestamp", "all_pairs"), text, is_missing=True)
