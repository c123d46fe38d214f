"""Removing the sets that no rule keeps."""

import dagster as dg

from vector_backup_pipeline.ops.find_prune_locations import PruneParameters, find_prune_locations
from vector_backup_pipeline.ops.prune_location import prune_location
from vector_backup_pipeline.ops.write_prune_log import write_prune_log


class VectorPruneConfig(PruneParameters):
    """The job's run config: flat, every key optional, `{}` prunes every place by the settings'
    rules."""


def spread_over_steps(config: VectorPruneConfig) -> dg.RunConfig:
    """The flat config as the steps take it."""
    return dg.RunConfig(ops={find_prune_locations.name: PruneParameters(**config.model_dump())})


@dg.config_mapping
def vector_prune_config(config: VectorPruneConfig) -> dg.RunConfig:
    """Called by Dagster several times a run, so it only rearranges."""
    return spread_over_steps(config)


@dg.job(
    config=vector_prune_config,
    # One process holds the run's state for all steps.
    executor_def=dg.in_process_executor,
    tags={"dagster/retry_strategy": "ALL_STEPS"},
)
def vector_prune_job() -> None:
    """Remove backup sets by retention rules, in the root and each task by itself."""
    locations = find_prune_locations()
    locations.map(prune_location)
    write_prune_log(locations.collect())
