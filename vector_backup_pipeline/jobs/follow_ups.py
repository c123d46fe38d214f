"""What follows a complete backup if the settings request it: a consolidation and a prune."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from vector_backup_pipeline import resources
from vector_backup_pipeline.engine.errors import as_backup_error
from vector_backup_pipeline.engine.incremental.consolidate import consolidate, consolidate_lines
from vector_backup_pipeline.engine.results import readable_size
from vector_backup_pipeline.engine.retention.run import location_lines
from vector_backup_pipeline.operations import PRUNE
from vector_backup_pipeline.parameters.consolidate import ConsolidateParameters
from vector_backup_pipeline.parameters.prune import PruneParameters


def follow_up(
    context: dg.OpExecutionContext,
    backup_run: resources.BackupRunResource,
) -> dict[str, dg.MetadataValue]:
    """Consolidate the backup's chain and prune its location. Returns the results and errors. The
    backup is complete by now, so an error is a warning and fails nothing."""
    metadata: dict[str, dg.MetadataValue] = {}
    backup, settings, progress = backup_run.current, backup_run.settings, backup_run.progress

    @contextmanager
    def warning(name: str, consequence: str) -> Iterator[None]:
        try:
            yield
        except Exception as cause:  # noqa: BLE001 - the backup is good, whatever this is
            error = as_backup_error(cause)
            text = f"{error.error_type}: {error.message}"
            line = f"The backup is complete, but the {name} after it failed, and {consequence}."
            context.log.warning(f"{line} {text}")
            progress.warned(f"{line} {text}")
            metadata[f"{name}_error"] = dg.MetadataValue.text(text)

    task_id = backup.request.task_id
    is_incremental = any(table.builds_on for table in backup.stored.values())
    if settings.consolidate_after and is_incremental:
        with warning("consolidation", "the chain grows longer"):
            result = consolidate(
                ConsolidateParameters(timestamp=backup.stamp, task_id=task_id),
                settings.open_root(),
                run_id=context.run_id,
                shortest=settings.consolidate_after,
            )
            if result.consolidated:
                context.log.info("\n".join(consolidate_lines(result)))
                progress.announced(
                    f"Consolidated {len(result.chain)} sets into {result.set_timestamp}"
                )
                metadata["consolidate_result"] = dg.MetadataValue.json(result.as_json())
    if settings.prune_after_backup:
        progress.announced("Pruning after the backup")
        with warning("prune", "old sets may fill the storage"):
            parameters = PruneParameters(task_id=task_id, global_only=task_id is None)
            run = resources.PruneRunResource.make_run(parameters, settings, context.run_id)
            try:
                for key in run.find():
                    lines = location_lines(run.prune(key), dry_run=False)
                    context.log.info("\n".join(lines))
            finally:
                pruned = run.close()
                metadata[PRUNE.result_key] = dg.MetadataValue.json(pruned.as_json())
                freed = readable_size(pruned.bytes_freed)
                metadata["freed by the prune"] = dg.MetadataValue.text(freed)
            if run.error is not None:
                raise run.error
    return metadata
