"""Prune one place."""

import dagster as dg

from vector_backup_pipeline.engine.results import PrunedLocation, readable_size
from vector_backup_pipeline.engine.retention.report import location_lines
from vector_backup_pipeline.engine.retention.run import LocationToPrune
from vector_backup_pipeline.outcome import failing_step
from vector_backup_pipeline.resources import ProgressResource, PruneRunResource


@dg.op
def prune_location(
    context: dg.OpExecutionContext,
    location: LocationToPrune,
    progress: ProgressResource,
    prune_run: PruneRunResource,
) -> dg.Output[PrunedLocation]:
    """Judge the sets of the place, and remove those that nothing keeps."""
    progress.said(f"Pruning {location.directory}")
    run = prune_run.current
    with failing_step():
        told = run.prune(location.key)
        lines = "\n".join(location_lines(told, dry_run=run.parameters.dry_run))
        context.log.info(lines)
        error = run.error_of(location.key)
        if error is not None:
            raise error
    return dg.Output(
        told,
        metadata={
            "kept": len(told.kept),
            "removed": len(told.removed),
            "freed": readable_size(told.bytes_freed),
            "sets": dg.MetadataValue.md(lines),
        },
    )
