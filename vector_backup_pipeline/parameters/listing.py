"""The parameters of the commands that show what is stored."""

from typing import Annotated

from pydantic import Field

from vector_backup_pipeline.parameters import types
from vector_backup_pipeline.parameters.model import ANY, Exclusion, Parameters, Shown

_TaskId = Annotated[types.TaskId, Shown(default="the root's own directory")]


class ListParameters(Parameters):
    """Without `task_id` and `global_only`, every location under the root is meant."""

    EXCLUSIONS = (
        Exclusion({"task_id": ANY, "global_only": [True]}, "a task's sets are not the root's own."),
    )

    task_id: Annotated[types.TaskId, Shown(default="all locations")] = Field(
        None, description="Only the sets of this task."
    )
    global_only: bool = False
    """Only the root's own sets, not those of tasks."""


class ShowParameters(Parameters):
    timestamp: types.SetName
    """Backup set: its timestamp, or latest for the newest complete one."""
    task_id: _TaskId = None


class DiffParameters(Parameters):
    tables: Annotated[types.Tables | None, Shown(default="all of either set")] = Field(
        None, examples=[["docs", "app.images"]]
    )
    """Compare only these tables."""
    task_id: _TaskId = None
