"""Getting it back: restore a backup set, proven, all or nothing."""

import dagster as dg

from vector_backup_pipeline.engine.catalog import check_timestamp
from vector_backup_pipeline.ops.build_indexes import build_indexes
from vector_backup_pipeline.ops.find_backup_set import find_backup_set
from vector_backup_pipeline.ops.load_table import load_table
from vector_backup_pipeline.ops.prepare_target import prepare_target
from vector_backup_pipeline.ops.prove_restore import prove_restore
from vector_backup_pipeline.ops.write_restore_log import write_restore_log
from vector_backup_pipeline.parameters.restore import RestoreParameters
from vector_backup_pipeline.resources import check_connection
from vector_backup_pipeline.run_config import flat_config
from vector_backup_pipeline.settings import load_settings


def check_restore(parameters: RestoreParameters) -> None:
    """Raise what the job would raise for these parameters, before a run is made of them."""
    check_timestamp(load_settings().timestamps, parameters.timestamp)
    check_connection("db_connection", parameters.db_connection)


@dg.job(
    config=flat_config(
        RestoreParameters, find_backup_set.name, resource="postgres", key="db_connection"
    ),
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
