"""The main job: back up the vector tables."""

import dagster as dg
from pydantic import Field

from vector_backup_pipeline.ops.export_table import export_table
from vector_backup_pipeline.ops.pin_snapshot import pin_snapshot
from vector_backup_pipeline.ops.resolve_backup_directory import (
    BackupParameters,
    resolve_backup_directory,
)
from vector_backup_pipeline.ops.truncate_embedding_table import truncate_embedding_table
from vector_backup_pipeline.ops.write_backup_log import write_backup_log
from vector_backup_pipeline.resources import PostgresResource


class VectorBackupConfig(BackupParameters):
    """The job's run config: flat, every key optional, `{}` is valid."""

    db_connection: str | None = Field(
        default=None,
        description="Connection string of the database to back up. Give it as {env: NAME}: what "
        'is typed here is stored with the run. Default: the "postgres" resource\'s own.',
    )


def spread_over_steps(config: VectorBackupConfig) -> dg.RunConfig:
    """The flat config as the steps and resources take it."""
    parameters = config.model_dump(exclude={"db_connection"})
    return dg.RunConfig(
        ops={resolve_backup_directory.name: BackupParameters(**parameters)},
        resources={"postgres": PostgresResource(db_connection=config.db_connection)}
        if config.db_connection is not None
        else {},
    )


@dg.config_mapping
def vector_backup_config(config: VectorBackupConfig) -> dg.RunConfig:
    """Called by Dagster several times a run, so it only rearranges."""
    return spread_over_steps(config)


@dg.job(
    config=vector_backup_config,
    # One process holds the snapshot for all steps.
    executor_def=dg.in_process_executor,
    # A retried run needs a snapshot of its own, so all its steps.
    tags={"dagster/retry_strategy": "ALL_STEPS"},
)
def vector_backup_job() -> None:
    """Back up the pgvector tables from one snapshot, and truncate the embedding table if asked."""
    target = resolve_backup_directory()
    exported = pin_snapshot(target).map(export_table)
    truncate_embedding_table(exported.collect())
    write_backup_log(target)
