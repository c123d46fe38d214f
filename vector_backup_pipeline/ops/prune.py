"""The steps of a prune, and the prune that follows a backup where the settings ask for it."""

from collections.abc import Iterator

import dagster as dg

from vector_backup_pipeline.engine.errors import BackupError, as_backup_error
from vector_backup_pipeline.engine.results import PrunedLocation, PruneResult, readable_size
from vector_backup_pipeline.engine.retention.run import (
    LocationToPrune,
    PruneRun,
    location_lines,
)
from vector_backup_pipeline.operations import PRUNE
from vector_backup_pipeline.outcome import failing_step, place_metadata
from vector_backup_pipeline.parameters.prune import PruneParameters
from vector_backup_pipeline.resources import (
    BackupStorageResource,
    ProgressResource,
    PruneRunResource,
)
from vector_backup_pipeline.run_config import config_schema
from vector_backup_pipeline.settings import Settings

PRUNE_ERROR_KEY = "prune_error"


@dg.op(config_schema=config_schema(PRUNE), out=dg.DynamicOut(LocationToPrune))
def find_prune_locations(
    context: dg.OpExecutionContext,
    backup_storage: BackupStorageResource,
    prune_run: PruneRunResource,
) -> Iterator[dg.DynamicOutput[LocationToPrune]]:
    """Find the places; give each to a step of its own."""

    def make_run(settings: Settings) -> PruneRun:
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


# Dagster skips what depends on a failed location, so it depends on the first step alone; the
# priority makes it the last one.
@dg.op(
    ins={"found": dg.In(dg.Nothing)},
    out=dg.Out(dict[str, object], description="The prune's result."),
    tags={"dagster/priority": "-10"},
)
def write_prune_log(prune_run: PruneRunResource) -> dg.Output[dict[str, object]]:
    """Write the log of each place from which something went, and show the result."""
    with failing_step():
        result = prune_run.current.finish()
    return dg.Output(result.as_json(), metadata=prune_run.report(result))


def prune_after_backup(
    context: dg.OpExecutionContext,
    backup_storage: BackupStorageResource,
    progress: ProgressResource,
    settings: Settings,
    task_id: str | None,
) -> dict[str, dg.MetadataValue]:
    """Prune the backup's own location by the rules of the settings; the metadata holds the result.

    The backup is complete by now, so an error here is a warning and fails nothing.
    """
    if not settings.prune_after_backup:
        return {}
    try:
        progress.said("Pruning after the backup")
        result, error = _prune(context, backup_storage, settings, task_id)
    except Exception as cause:  # noqa: BLE001 - the backup is good, whatever this is
        return _warning(context, progress, as_backup_error(cause))
    metadata: dict[str, dg.MetadataValue] = {
        PRUNE.result_key: dg.MetadataValue.json(result.as_json()),
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
