"""Proving stored sets again, and that they restore."""

import dagster as dg

from vector_backup_pipeline.engine.catalog import check_timestamp
from vector_backup_pipeline.ops.find_backup_sets import find_backup_sets
from vector_backup_pipeline.ops.verify_backup_set import verify_backup_set
from vector_backup_pipeline.ops.write_verify_log import write_verify_log
from vector_backup_pipeline.parameters.verify import VerifyParameters
from vector_backup_pipeline.resources import check_connection
from vector_backup_pipeline.run_config import flat_config
from vector_backup_pipeline.settings import load_settings


def check_verify(parameters: VerifyParameters) -> None:
    """Raise what the job would raise for these parameters, before a run is made of them."""
    if parameters.timestamp is not None:
        check_timestamp(load_settings().timestamps, parameters.timestamp)
    check_connection("scratch_connection", parameters.scratch_connection)


@dg.job(
    config=flat_config(
        VerifyParameters, find_backup_sets.name, resource="drill_server", key="scratch_connection"
    ),
    # One process holds the run's state for all steps.
    executor_def=dg.in_process_executor,
    tags={"dagster/retry_strategy": "ALL_STEPS"},
)
def vector_verify_job() -> None:
    """Verify stored backup sets, and in a drill restore them elsewhere."""
    sets = find_backup_sets()
    sets.map(verify_backup_set)
    write_verify_log(sets.collect())
