"""The parameters of a consolidation."""

from typing import Annotated

from vector_backup_pipeline.parameters import types
from vector_backup_pipeline.parameters.model import Parameters, Shown


class ConsolidateParameters(Parameters):
    """The parameters of a consolidation of one chain."""

    timestamp: types.SetName = types.LATEST
    """Newest set of the chain: its timestamp, or latest."""
    source_database: Annotated[types.SourceDatabase, Shown(default="the only database")] = None
    task_id: Annotated[types.TaskId, Shown(default="the root's own directory")] = None
