"""The parameters of a consolidation."""

from typing import Annotated

from pydantic import Field

from vector_backup_pipeline.parameters import types
from vector_backup_pipeline.parameters.model import Parameters, Shown


class ConsolidateParameters(Parameters):
    """The parameters of a consolidation of one chain."""

    timestamp: Annotated[str, Shown(is_set=True)] = Field(
        default=types.LATEST,
        description="Newest set of the chain: its timestamp, or latest.",
        examples=["20250721_234914", types.LATEST],
    )
    source_database: Annotated[types.SourceDatabase, Shown(default="the only database")] = None
    task_id: Annotated[types.TaskId, Shown(default="the root's own directory")] = None
