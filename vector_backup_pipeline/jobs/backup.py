"""The main job: back up the vector tables."""

from collections.abc import Iterator

import dagster as dg

from vector_backup_pipeline import resources
from vector_backup_pipeline.assets import table_asset_key
from vector_backup_pipeline.engine.backup.run import BackupRun, BackupTarget, TableExport
from vector_backup_pipeline.engine.manifest import TableBackup
from vector_backup_pipeline.engine.results import (
    BackupResult,
    ExportedTable,
    FailedTable,
    IncrementalTable,
    TruncatedTable,
    readable_size,
)
from vector_backup_pipeline.engine.runs import made
from vector_backup_pipeline.jobs.consolidate import consolidate_after_backup
from vector_backup_pipeline.jobs.frame import log_step, mapping_keys, operation_job, table_progress
from vector_backup_pipeline.jobs.prune import prune_after_backup
from vector_backup_pipeline.operations import BACKUP
from vector_backup_pipeline.outcome import failing_step, location_metadata
from vector_backup_pipeline.run_config import config_schema


@dg.op(config_schema=config_schema(BACKUP))
def resolve_backup_directory(
    context: dg.OpExecutionContext,
    backup_storage: resources.BackupStorageResource,
    backup_run: resources.BackupRunResource,
) -> dg.Output[BackupTarget]:
    """Check the parameters, create the backup directory and reserve the run's timestamp."""
    with failing_step():
        target = backup_run.begin(context, backup_storage).resolve()
    return dg.Output(
        target,
        metadata={
            "directory": location_metadata(target.directory),
            "timestamp": target.timestamp or "nothing to do",
            "task_id": target.task_id or "none",
        },
    )


@dg.op(out=dg.DynamicOut(TableExport))
def pin_snapshot(
    backup_target: BackupTarget,
    postgres: resources.PostgresResource,
    backup_run: resources.BackupRunResource,
) -> Iterator[dg.DynamicOutput[TableExport]]:
    """Open the run's transactions on one snapshot, and start a step for each table."""
    if backup_target.timestamp is None:
        return
    with failing_step():
        run = backup_run.current
        exports = run.pin(
            lambda: postgres.connection_settings(backup_run.settings, run.request.db_connection)
        )
    for export, key in zip(exports, mapping_keys([e.table for e in exports]), strict=True):
        rows = export.estimated_rows
        yield dg.DynamicOutput(
            export,
            mapping_key=key,
            metadata={
                "table": export.table,
                "step": f"export_table[{key}]",
                "size in database": readable_size(export.size),
                "estimated rows": "unknown" if rows is None else rows,
                "ranges": export.ranges,
            },
        )


@dg.op
def export_table(
    context: dg.OpExecutionContext,
    table_export: TableExport,
    progress: resources.ProgressResource,
    backup_run: resources.BackupRunResource,
) -> dg.Output[ExportedTable]:
    """Stream the table's rows of the snapshot into a file, which appears only when complete."""
    table = table_export.table
    with failing_step():
        run = backup_run.current
        listener = table_progress(context, progress, table, run.request.progress_every)
        exported = run.export(table, listener)
    return dg.Output(
        exported,
        metadata={
            "table": table,
            "rows": exported.row_count,
            "file": exported.backup_file,
            "size": exported.file_size,
            "seconds": exported.duration,
            **_incremental_metadata(exported, run.stored[table]),
        },
    )


@dg.op
def truncate_embedding_table(
    exported_tables: list[ExportedTable], backup_run: resources.BackupRunResource
) -> dg.Output[dict[str, TruncatedTable]]:
    """Verify the stored files, then truncate in the transaction that locked out writers before the
    snapshot."""
    with failing_step():
        truncated = backup_run.current.truncate()
    rows = {f"{table}: rows truncated": entry.rows_before for table, entry in truncated.items()}
    return dg.Output(truncated, metadata={"tables backed up": len(exported_tables), **rows})


@log_step
def write_backup_log(
    context: dg.OpExecutionContext,
    backup_storage: resources.BackupStorageResource,
    progress: resources.ProgressResource,
    backup_run: resources.BackupRunResource,
) -> Iterator[dg.AssetMaterialization | dg.Output[dict[str, object]]]:
    """Write the manifest and the log, even if a table failed, and report the result. Consolidate
    and prune if the settings request it and the backup is complete."""
    with failing_step():
        run = backup_run.current
        result = run.finish()
    yield from _materializations(run, result)
    metadata: dict[str, dg.MetadataValue] = {}
    if result.backup_performed and run.error is None:
        settings, task_id = backup_run.settings, run.request.task_id
        root = backup_storage.open_root(settings)
        is_incremental = any(files.builds_on for files in run.stored.values())
        if settings.consolidate_after and is_incremental:
            metadata |= consolidate_after_backup(
                context, progress, root, settings, run.stamp, task_id
            )
        if settings.prune_after_backup:
            metadata |= prune_after_backup(context, progress, root, settings, task_id)
    yield dg.Output(result.as_json(), metadata=backup_run.report(result) | metadata)


def _materializations(run: BackupRun, result: BackupResult) -> Iterator[dg.AssetMaterialization]:
    """One for each stored table, with numbers that the UI plots over time."""
    for table, files in run.stored.items():
        stored = made(files.file)
        seconds = max(stored.duration, 0.001)
        yield dg.AssetMaterialization(
            asset_key=table_asset_key(table),
            metadata={
                "rows": files.rows,
                "bytes": stored.bytes,
                "seconds": seconds,
                "rows/s": round(stored.rows / seconds, 1),
                "MB/s": round(stored.bytes / 1e6 / seconds, 3),
                "path": location_metadata(run.path_of(stored.name)),
                **_incremental_metadata(result.tables_backed_up[table], files),
            },
        )


def _incremental_metadata(
    exported: ExportedTable | FailedTable, stored: TableBackup
) -> dict[str, int | str]:
    """What the run exported of a table if its mode was not full."""
    if not isinstance(exported, IncrementalTable):
        return {}
    metadata: dict[str, int | str | None] = {
        "mode": exported.mode,
        "builds_on": exported.builds_on,
        "rows exported": exported.rows_exported,
        "rows removed": exported.rows_removed,
        "key file bytes": stored.keys.bytes if stored.keys else None,
        "reason": exported.reason,
    }
    return {key: value for key, value in metadata.items() if value is not None}


@operation_job(BACKUP, first_step=resolve_backup_directory)
def vector_backup_job() -> None:
    """Back up the pgvector tables from one snapshot, and truncate the embedding table if asked."""
    target = resolve_backup_directory()
    exported = pin_snapshot(target).map(export_table)
    truncate_embedding_table(exported.collect())
    write_backup_log(target)
