"""The main job: back up the vector tables."""

import dagster as dg

from vector_backup_pipeline.ops.export_table import export_table
from vector_backup_pipeline.ops.pin_snapshot import pin_snapshot
from vector_backup_pipeline.ops.resolve_backup_directory import resolve_backup_directory
from vector_backup_pipeline.ops.truncate_embedding_table import truncate_embedding_table
from vector_backup_pipeline.ops.write_backup_log import write_backup_log
from vector_backup_pipeline.parameters.backup import BackupParameters
from vector_backup_pipeline.resources import check_connection
from vector_backup_pipeline.run_config import flat_config
from vector_backup_pipeline.settings import load_settings


def check_backup(parameters: BackupParameters) -> None:
    """Raise what the job would raise for these parameters, before a run is made of them."""
    settings = load_settings()
    parameters.with_tables(settings.tables, settings.truncate_tables)
    check_connection("db_connection", parameters.db_connection)


@dg.job(
    config=flat_config(
        BackupParameters, resolve_backup_directory.name, resource="postgres", key="db_connection"
    ),
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
