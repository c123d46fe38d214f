"""Tell the run's story: manifest, log, result, materializations."""

from collections.abc import Iterator

import dagster as dg

from vector_backup_pipeline.assets import table_asset_key
from vector_backup_pipeline.engine.backup.run import BackupRun
from vector_backup_pipeline.ops.prune_after_backup import prune_after_backup
from vector_backup_pipeline.outcome import failing_step, outcome_metadata, place_metadata
from vector_backup_pipeline.resources import (
    BackupRunResource,
    BackupStorageResource,
    ProgressResource,
)


# It depends on the first step alone, since what depends on a failed table would be skipped; the
# priority makes it the last one to run.
@dg.op(
    ins={"resolved": dg.In(dg.Nothing)},
    out=dg.Out(dict[str, object], description="The run's result."),
    tags={"dagster/priority": "-10"},
)
def write_backup_log(
    context: dg.OpExecutionContext,
    backup_storage: BackupStorageResource,
    progress: ProgressResource,
    backup_run: BackupRunResource,
) -> Iterator[dg.AssetMaterialization | dg.Output[dict[str, object]]]:
    """Write manifest and log, whatever became of the tables, and show the result. Prune, if the
    settings ask for it and the backup is good."""
    with failing_step():
        run = backup_run.current
        result = run.finish()
    yield from _materializations(run)
    pruned: dict[str, dg.MetadataValue] = {}
    if result.backup_performed and run.error is None:
        pruned = prune_after_backup(context, backup_storage, progress, run.request.task_id)
    backup_run.result_is_told()
    yield dg.Output(result.as_json(), metadata=outcome_metadata(result, run.error) | pruned)


def _materializations(run: BackupRun) -> Iterator[dg.AssetMaterialization]:
    """One for each stored table, with numbers that the UI plots over time."""
    for table, stored in run.stored.items():
        seconds = max(stored.duration, 1e-6)
        yield dg.AssetMaterialization(
            asset_key=table_asset_key(table),
            metadata={
                "rows": stored.rows,
                "bytes": stored.size,
                "seconds": round(seconds, 3),
                "rows/s": round(stored.rows / seconds, 1),
                "MB/s": round(stored.size / 1e6 / seconds, 3),
                "path": place_metadata(run.path_of(stored.name)),
            },
        )
