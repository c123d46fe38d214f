"""Check the parameters, find the set, prove its files."""

import dagster as dg

from vector_backup_pipeline.engine.restore.run import FoundBackup, RestoreRun
from vector_backup_pipeline.engine.results import readable_size
from vector_backup_pipeline.outcome import failing_step, place_metadata
from vector_backup_pipeline.parameters.restore import RestoreParameters
from vector_backup_pipeline.resources import (
    BackupStorageResource,
    PostgresResource,
    RestoreRunResource,
)
from vector_backup_pipeline.run_config import config_schema
from vector_backup_pipeline.settings import load_settings


@dg.op(config_schema=config_schema(RestoreParameters, without="db_connection"))
def find_backup_set(
    context: dg.OpExecutionContext,
    postgres: PostgresResource,
    backup_storage: BackupStorageResource,
    restore_run: RestoreRunResource,
) -> dg.Output[FoundBackup]:
    """Find the set and prove that its files are what was written, before the target is touched."""

    def make_run() -> RestoreRun:
        settings = load_settings()
        return RestoreRun(
            RestoreParameters(**context.op_config),
            backup_storage.open_root(settings),
            settings.timestamps,
            lock_timeout=settings.lock_timeout,
            run_id=context.run_id,
        )

    with failing_step():
        found = restore_run.begin(make_run).find(postgres.connection_settings)
    return dg.Output(
        found,
        metadata={
            "directory": place_metadata(found.directory),
            "timestamp": found.timestamp,
            "tables": ", ".join(found.tables),
            "size": readable_size(found.size),
        },
    )
