"""Proving stored sets again, and that they restore."""

import dagster as dg
from pydantic import Field

from vector_backup_pipeline.ops.find_backup_sets import VerifyParameters, find_backup_sets
from vector_backup_pipeline.ops.verify_backup_set import verify_backup_set
from vector_backup_pipeline.ops.write_verify_log import write_verify_log
from vector_backup_pipeline.resources import DrillServerResource


class VectorVerifyConfig(VerifyParameters):
    """The job's run config: flat, every key optional, `{}` verifies every set."""

    scratch_connection: str | None = Field(
        default=None,
        description="Connection string of a server to drill on; the role must be allowed to create "
        "databases. Give it as {env: NAME}: what is typed here is stored with the run. Default: an "
        "embedded PostgreSQL of the drill's own.",
    )


def spread_over_steps(config: VectorVerifyConfig) -> dg.RunConfig:
    """The flat config as the steps and resources take it."""
    parameters = config.model_dump(exclude={"scratch_connection"})
    return dg.RunConfig(
        ops={find_backup_sets.name: VerifyParameters(**parameters)},
        resources={
            "drill_server": DrillServerResource(scratch_connection=config.scratch_connection)
        }
        if config.scratch_connection is not None
        else {},
    )


@dg.config_mapping
def vector_verify_config(config: VectorVerifyConfig) -> dg.RunConfig:
    """Called by Dagster several times a run, so it only rearranges."""
    return spread_over_steps(config)


@dg.job(
    config=vector_verify_config,
    # One process holds the run's state for all steps.
    executor_def=dg.in_process_executor,
    tags={"dagster/retry_strategy": "ALL_STEPS"},
)
def vector_verify_job() -> None:
    """Verify stored backup sets, and in a drill restore them elsewhere."""
    sets = find_backup_sets()
    sets.map(verify_backup_set)
    write_verify_log(sets.collect())
