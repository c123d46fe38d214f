"""Proving stored sets again, and that they restore."""

from vector_backup_pipeline.engine.catalog.choice import check_timestamp
from vector_backup_pipeline.jobs.frame import job_of
from vector_backup_pipeline.operations import VERIFY
from vector_backup_pipeline.ops.verify import (
    find_backup_sets,
    verify_backup_set,
    write_verify_log,
)
from vector_backup_pipeline.parameters.verify import VerifyParameters
from vector_backup_pipeline.resources import check_connection
from vector_backup_pipeline.settings import Settings, load_settings


def check_verify(parameters: VerifyParameters, settings: Settings | None = None) -> None:
    """Raise what the job would raise for these parameters, before it is launched."""
    if parameters.timestamp is not None:
        check_timestamp((settings or load_settings()).timestamps, parameters.timestamp)
    check_connection("scratch_connection", parameters.scratch_connection)


@job_of(VERIFY, first_step=find_backup_sets.name)
def vector_verify_job() -> None:
    """Verify stored backup sets, and in a drill restore them elsewhere."""
    sets = find_backup_sets()
    sets.map(verify_backup_set)
    write_verify_log(sets.collect())
