"""Check the parameters, find the directory, take the run's timestamp."""

import dagster as dg

from vector_backup_pipeline.engine.backup.run import BackupRun, BackupTarget
from vector_backup_pipeline.outcome import failing_step, place_metadata
from vector_backup_pipeline.parameters.backup import BackupParameters
from vector_backup_pipeline.resources import BackupRunResource, BackupStorageResource
from vector_backup_pipeline.run_config import config_schema
from vector_backup_pipeline.settings import load_settings


@dg.op(config_schema=config_schema(BackupParameters, without="db_connection"))
def resolve_backup_directory(
    context: dg.OpExecutionContext,
    backup_storage: BackupStorageResource,
    backup_run: BackupRunResource,
) -> dg.Output[BackupTarget]:
    """Check the parameters, make the backup directory and take a timestamp of its own in it."""

    def make_run() -> BackupRun:
        parameters = BackupParameters(**context.op_config)
        settings = load_settings()
        return BackupRun(
            parameters.with_tables(settings.tables, settings.truncate_tables),
            backup_storage.open_root(settings),
            settings.timestamps,
            lock_timeout=settings.lock_timeout,
            run_id=context.run_id,
        )

    with failing_step():
        target = backup_run.begin(make_run).resolve()
    return dg.Output(
        target,
        metadata={
            "directory": place_metadata(target.directory),
            "timestamp": target.timestamp or "nothing to do",
            "task_id": target.task_id or "none",
        },
    )
