"""Removing the sets that no rule keeps."""

from vector_backup_pipeline.jobs.frame import job_of
from vector_backup_pipeline.operations import PRUNE
from vector_backup_pipeline.ops.prune import (
    find_prune_locations,
    prune_location,
    write_prune_log,
)
from vector_backup_pipeline.parameters.prune import PruneParameters
from vector_backup_pipeline.settings import Settings, load_settings


def check_prune(parameters: PruneParameters, settings: Settings | None = None) -> None:
    """Raise what the job would raise for these parameters, before it is launched."""
    (settings or load_settings()).keep.overridden_by(parameters)


@job_of(PRUNE, first_step=find_prune_locations.name)
def vector_prune_job() -> None:
    """Remove backup sets by retention rules, in the root and each task by itself."""
    locations = find_prune_locations()
    locations.map(prune_location)
    write_prune_log(locations.collect())
