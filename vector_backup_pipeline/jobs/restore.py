"""Getting it back: restore a backup set, proven, all or nothing."""

from vector_backup_pipeline.engine.catalog.choice import check_timestamp
from vector_backup_pipeline.jobs.frame import job_of
from vector_backup_pipeline.operations import RESTORE
from vector_backup_pipeline.ops.restore import (
    build_indexes,
    find_backup_set,
    load_table,
    prepare_target,
    prove_restore,
    write_restore_log,
)
from vector_backup_pipeline.parameters.restore import RestoreParameters
from vector_backup_pipeline.resources import check_connection
from vector_backup_pipeline.settings import Settings, load_settings


def check_restore(parameters: RestoreParameters, settings: Settings | None = None) -> None:
    """Raise what the job would raise for these parameters, before it is launched."""
    check_timestamp((settings or load_settings()).timestamps, parameters.timestamp)
    check_connection("db_connection", parameters.db_connection)


@job_of(RESTORE, first_step=find_backup_set.name)
def vector_restore_job() -> None:
    """Restore a backup set into its tables, another database or an empty one, and prove it."""
    found = find_backup_set()
    loaded = prepare_target(found).map(load_table)
    prove_restore(build_indexes(loaded.collect()))
    write_restore_log(found)
