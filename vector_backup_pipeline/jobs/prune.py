"""The removal of the sets that no rule keeps."""

from collections.abc import Iterator

import dagster as dg

from vector_backup_pipeline import resources
from vector_backup_pipeline.engine.results import PrunedLocation, readable_size
from vector_backup_pipeline.engine.retention.run import location_lines
from vector_backup_pipeline.jobs.frame import log_step, operation_job
from vector_backup_pipeline.operations import PRUNE
from vector_backup_pipeline.outcome import failing_step, location_metadata
from vector_backup_pipeline.run_config import config_schema


@dg.op(config_schema=config_schema(PRUNE), out=dg.DynamicOut(str))
def find_prune_locations(
    context: dg.OpExecutionContext,
    prune_run: resources.PruneRunResource,
) -> Iterator[dg.DynamicOutput[str]]:
    """Find the locations, and start a step for each."""
    with failing_step():
        locations = prune_run.begin(context).find()
    for key, location in locations.items():
        yield dg.DynamicOutput(
            key,
            mapping_key=key,
            metadata={
                "directory": location_metadata(location.directory.location),
                "task_id": location.task_id or "none",
            },
        )


@dg.op
def prune_location(
    context: dg.OpExecutionContext,
    key: str,
    prune_run: resources.PruneRunResource,
) -> dg.Output[PrunedLocation]:
    """Apply the rules to the sets of the location, and remove those that no rule keeps."""
    with failing_step():
        run = prune_run.current
        prune_run.progress.announced(f"Pruning {run.parts[key].directory.location}")
        pruned = run.prune(key)
        lines = "\n".join(location_lines(pruned, dry_run=run.parameters.dry_run))
        context.log.info(lines)
        run.check(key)
    return dg.Output(
        pruned,
        metadata={
            "kept": len(pruned.kept),
            "removed": len(pruned.removed),
            "freed": readable_size(pruned.bytes_freed),
            "sets": dg.MetadataValue.md(lines),
        },
    )


@log_step
def write_prune_log(prune_run: resources.PruneRunResource) -> dg.Output[dict[str, object]]:
    """Write the log of each location from which a set was removed, and report the result."""
    with failing_step():
        result = prune_run.current.finish()
    return dg.Output(result.as_json(), metadata=prune_run.report(result))


@operation_job(PRUNE, first_step=find_prune_locations)
def vector_prune_job() -> None:
    """Remove the backup sets that no retention rule keeps, in the root and in each task."""
    locations = find_prune_locations()
    locations.map(prune_location)
    write_prune_log(locations.collect())
