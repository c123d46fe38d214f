"""The main job: back up the vector tables."""

from vector_backup_pipeline.jobs.frame import job_of
from vector_backup_pipeline.operations import BACKUP
from vector_backup_pipeline.ops.backup import (
    export_table,
    pin_snapshot,
    resolve_backup_directory,
    truncate_embedding_table,
    write_backup_log,
)
from vector_backup_pipeline.parameters.backup import BackupParameters
from vector_backup_pipeline.resources import check_connection
from vector_backup_pipeline.settings import Settings, load_settings


def check_backup(parameters: BackupParameters, settings: Settings | None = None) -> None:
    """Raise what the job would raise for these parameters, before it is launched."""
    settings = settings or load_settings()
    parameters.with_tables(settings.tables, settings.truncate_tables)
    check_connection("db_connection", parameters.db_connection)


@job_of(BACKUP, first_step=resolve_backup_directory.name)
def vector_backup_job() -> None:
    """Back up the pgvector tables from one snapshot, and truncate the embedding table if asked."""
    target = resolve_backup_directory()
    exported = pin_snapshot(target).map(export_table)
    truncate_embedding_table(exported.collect())
    write_backup_log(target)
