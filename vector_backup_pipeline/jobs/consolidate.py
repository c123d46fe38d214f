"""The consolidation of a long chain after a backup."""

import dagster as dg

from vector_backup_pipeline import resources
from vector_backup_pipeline.engine.errors import as_backup_error
from vector_backup_pipeline.engine.incremental.consolidate import consolidate, consolidate_lines
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.jobs.frame import follow_up_failure
from vector_backup_pipeline.parameters.consolidate import ConsolidateParameters
from vector_backup_pipeline.settings import Settings


def consolidate_after_backup(
    context: dg.OpExecutionContext,
    progress: resources.ProgressResource,
    root: BackupRoot,
    settings: Settings,
    stamp: str,
    task_id: str | None,
) -> dict[str, dg.MetadataValue]:
    """Make a full set of the chain of the backup's set `stamp` if it has as many sets as the
    settings say; the metadata holds the result."""
    try:
        parameters = ConsolidateParameters(timestamp=stamp, task_id=task_id)
        result = consolidate(
            parameters, root, run_id=context.run_id, shortest=settings.consolidate_after
        )
    except Exception as error:  # noqa: BLE001 - the backup is good, whatever this is
        consequence = "the chain grows longer"
        return follow_up_failure(
            context, progress, "consolidation", consequence, as_backup_error(error)
        )
    if not result.consolidated:
        return {}
    context.log.info("\n".join(consolidate_lines(result)))
    progress.announced(f"Consolidated {len(result.chain)} sets into {result.set_timestamp}")
    return {"consolidate_result": dg.MetadataValue.json(result.as_json())}
