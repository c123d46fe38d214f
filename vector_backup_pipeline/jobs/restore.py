"""Getting it back: restore a backup set, proven, all or nothing."""

import dagster as dg
from pydantic import Field

from vector_backup_pipeline.ops.build_indexes import build_indexes
from vector_backup_pipeline.ops.find_backup_set import RestoreParameters, find_backup_set
from vector_backup_pipeline.ops.load_table import load_table
from vector_backup_pipeline.ops.prepare_target import prepare_target
from vector_backup_pipeline.ops.prove_restore import prove_restore
from vector_backup_pipeline.ops.write_restore_log import write_restore_log
from vector_backup_pipeline.resources import PostgresResource


class VectorRestoreConfig(RestoreParameters):
    """The job's run config: flat; `timestamp` alone must be given."""

    db_connection: str | None = Field(
        default=None,
        description="Connection string of the database to restore into. Give it as {env: NAME}: "
        'what is typed here is stored with the run. Default: the "postgres" resource\'s own.',
    )


def spread_over_steps(config: VectorRestoreConfig) -> dg.RunConfig:
    """The flat config as the steps and resources take it."""
    parameters = config.model_dump(exclude={"db_connection"})
    return dg.RunConfig(
        ops={find_backup_set.name: RestoreParameters(**parameters)},
        resources={"postgres": PostgresResource(db_connection=config.db_connection)}
        if config.db_connection is not None
        else {},
    )


@dg.config_mapping
def vector_restore_config(config: VectorRestoreConfig) -> dg.RunConfig:
    """Called by Dagster several times a run, so it only rearranges."""
    return spread_over_steps(config)


@dg.job(
    config=vector_restore_config,
    # One process holds the transaction for all steps.
    executor_def=dg.in_process_executor,
    # A retried run needs a transaction of its own, so all its steps.
    tags={"dagster/retry_strategy": "ALL_STEPS"},
)
def vector_restore_job() -> None:
    """Restore a backup set into its tables, another database or an empty one, and prove it."""
    found = find_backup_set()
    loaded = prepare_target(found).map(load_table)
    prove_restore(build_indexes(loaded.collect()))
    write_restore_log(found)
