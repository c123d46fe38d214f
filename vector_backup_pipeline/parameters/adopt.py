"""The parameters of an adoption of the older system's files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator, Field

from vector_backup_pipeline.engine.errors import Problem
from vector_backup_pipeline.parameters.model import Parameters, Shown
from vector_backup_pipeline.parameters.types import TaskId


class AdoptParameters(Parameters):
    """What may be asked of an adoption: one pair of files, or all."""

    timestamp: Annotated[
        str | None, AfterValidator(lambda text: text or None), Shown(metavar="STAMP")
    ] = Field(
        default=None,
        description="Adopt the pair of files of this timestamp.",
        examples=["20240102_030405"],
    )
    all_pairs: Annotated[bool, Shown("--all")] = Field(
        default=False, description="Adopt every adoptable pair."
    )
    task_id: Annotated[TaskId, Shown(default="all locations")] = Field(
        default=None, description="Adopt only files of this task."
    )
    dry_run: bool = Field(default=False, description="Read the files, report, and write nothing.")

    def conflicts(self) -> Iterator[Problem]:
        keys = ("timestamp", "all_pairs")
        if self.timestamp is None and not self.all_pairs:
            text = "are both missing. Give one of them; vector-backup list shows adoptable files."
            yield Problem(keys, text, is_missing=True)
        if self.timestamp is not None and self.all_pairs:
            yield Problem(keys, "exclude each other. Give one of them.")
