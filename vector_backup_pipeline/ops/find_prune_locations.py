"""Check the parameters of a prune, find the places, fan out one step a place."""

from collections.abc import Iterator

import dagster as dg

from vector_backup_pipeline.engine.retention.run import LocationToPrune, PruneRun
from vector_backup_pipeline.outcome import failing_step, place_metadata
from vector_backup_pipeline.parameters.prune import PruneParameters
from vector_backup_pipeline.resources import BackupStorageResource, PruneRunResource
from vector_backup_pipeline.run_config import config_schema
from vector_backup_pipeline.settings import load_settings


@dg.op(config_schema=config_schema(PruneParameters), out=dg.DynamicOut(LocationToPrune))
def find_prune_locations(
    context: dg.OpExecutionContext,
    backup_storage: BackupStorageResource,
    prune_run: PruneRunResource,
) -> Iterator[dg.DynamicOutput[LocationToPrune]]:
    """Find the places; give each to a step of its own."""

    def make_run() -> PruneRun:
        settings = load_settings()
        return PruneRun(
            PruneParameters(**context.op_config),
            settings.keep,
            backup_storage.open_root(settings),
            settings.timestamps,
            run_id=context.run_id,
        )

    with failing_step():
        found = prune_run.begin(make_run).find()
    for each in found:
        yield dg.DynamicOutput(
            each,
            mapping_key=each.key,
            metadata={
                "directory": place_metadata(each.directory),
                "task_id": each.task_id or "none",
            },
        )
