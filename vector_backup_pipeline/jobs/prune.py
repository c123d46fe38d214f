"""Removing the sets that no rule keeps."""

import dagster as dg

from vector_backup_pipeline.ops.find_prune_locations import find_prune_locations
from vector_backup_pipeline.ops.prune_location import prune_location
from vector_backup_pipeline.ops.write_prune_log import write_prune_log
from vector_backup_pipeline.parameters.prune import PruneParameters
from vector_backup_pipeline.run_config import flat_config
from vector_backup_pipeline.settings import load_settings


def check_prune(parameters: PruneParameters) -> None:
    """Raise what the job would raise for these parameters, before a run is made of them."""
    load_settings().keep.but(parameters)


@dg.job(
    config=flat_config(PruneParameters, find_prune_locations.name),
    # One process holds the run's state for all steps.
    executor_def=dg.in_process_executor,
    tags={"dagster/retry_strategy": "ALL_STEPS"},
)
def vector_prune_job() -> None:
    """Remove backup sets by retention rules, in the root and each task by itself."""
    locations = find_prune_locations()
    locations.map(prune_location)
    write_prune_log(locations.collect())
