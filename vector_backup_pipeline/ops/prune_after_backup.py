"""The prune that follows a backup where the settings ask for it; no step of its own."""

import dagster as dg

from vector_backup_pipeline.engine.errors import BackupError, as_backup_error
from vector_backup_pipeline.engine.results import PruneResult, readable_size
from vector_backup_pipeline.engine.retention.report import location_lines
from vector_backup_pipeline.engine.retention.run import PruneRun
from vector_backup_pipeline.outcome import PRUNE_RESULT_KEY
from vector_backup_pipeline.parameters.prune import PruneParameters
from vector_backup_pipeline.resources import BackupStorageResource, ProgressResource
from vector_backup_pipeline.settings import Settings, load_settings

PRUNE_ERROR_KEY = "prune_error"


def prune_after_backup(
    context: dg.OpExecutionContext,
    backup_storage: BackupStorageResource,
    progress: ProgressResource,
    task_id: str | None,
) -> dict[str, dg.MetadataValue]:
    """Prune the backup's own place by the settings' rules, and say in metadata what came of it.

    The backup is made by now: whatever goes wrong here is a warning, and fails nothing.
    """
    try:
        settings = load_settings()
        if not settings.prune_after_backup:
            return {}
        progress.said("Pruning after the backup")
        result, error = _prune(context, backup_storage, settings, task_id)
    except Exception as cause:  # noqa: BLE001 - the backup is good, whatever this is
        return _warning(context, progress, as_backup_error(cause))
    metadata: dict[str, dg.MetadataValue] = {
        PRUNE_RESULT_KEY: dg.MetadataValue.json(result.as_json()),
        "freed by the prune": dg.MetadataValue.text(readable_size(result.bytes_freed)),
    }
    return metadata | (_warning(context, progress, error) if error else {})


def _prune(
    context: dg.OpExecutionContext,
    backup_storage: BackupStorageResource,
    settings: Settings,
    task_id: str | None,
) -> tuple[PruneResult, BackupError | None]:
    parameters = PruneParameters(task_id=task_id, global_only=task_id is None)
    root = backup_storage.open_root(settings)
    run = PruneRun(parameters, settings.keep, root, settings.timestamps, run_id=context.run_id)
    try:
        for location in run.find():
            told = run.prune(location.key)
            context.log.info("\n".join(location_lines(told, dry_run=False)))
    finally:
        result = run.close()
    return result, run.error


def _warning(
    context: dg.OpExecutionContext, progress: ProgressResource, error: BackupError
) -> dict[str, dg.MetadataValue]:
    text = f"{error.error_type}: {error.message}"
    warning = (
        "The backup is complete, but the prune after it failed, and old sets may fill the storage. "
        f"{text}"
    )
    context.log.warning(warning)
    progress.said(warning)
    return {PRUNE_ERROR_KEY: dg.MetadataValue.text(text)}
