"""The main job: back up the vector tables."""

from collections.abc import Iterator

import dagster as dg
from dagster._core.storage.tags import MAX_RETRIES_TAG

from vector_backup_pipeline import resources
from vector_backup_pipeline.engine.backup.run import TableExport
from vector_backup_pipeline.engine.results import ExportedTable, TruncatedTable
from vector_backup_pipeline.jobs import frame
from vector_backup_pipeline.jobs.backup_assets import (
    BackupEvent,
    incremental_metadata,
    report_backup,
)
from vector_backup_pipeline.operations import BACKUP
from vector_backup_pipeline.outcome import failing_step, location_metadata
from vector_backup_pipeline.run_config import config_schema


@dg.op(config_schema=config_schema(BACKUP))
def resolve_backup_directory(
    context: dg.OpExecutionContext,
    backup_run: resources.BackupRunResource,
) -> dg.Output[str | None]:
    """Check the parameters, create the backup directory and reserve the run's timestamp."""
    with failing_step():
        run = backup_run.begin(context)
        timestamp = run.resolve()
    directory = location_metadata(run.directory)
    return dg.Output(
        timestamp, metadata={"directory": directory, "timestamp": timestamp or "nothing to do"}
    )


@dg.op(out=dg.DynamicOut(TableExport))
def pin_snapshot(
    timestamp: str | None,
    postgres: resources.PostgresResource,
    backup_run: resources.BackupRunResource,
) -> Iterator[dg.DynamicOutput[TableExport]]:
    """Open the run's transactions on one snapshot, and start a step for each table."""
    if timestamp is None:
        return
    with failing_step():
        run = backup_run.current
        exports = run.pin(
            lambda: postgres.connection_settings(backup_run.settings, run.request.db_connection)
        )
    yield from frame.mapped_steps("export_table", exports, [e.table for e in exports])


@dg.op
def export_table(
    context: dg.OpExecutionContext,
    table_export: TableExport,
    backup_run: resources.BackupRunResource,
) -> dg.Output[ExportedTable]:
    """Stream the table's rows of the snapshot into a file, which appears only when complete."""
    table = table_export.table
    with failing_step():
        run = backup_run.current
        exported = run.export(table, frame.table_progress(context, backup_run, table))
    return dg.Output(
        exported,
        metadata={
            "table": table,
            "rows": exported.row_count,
            "file": exported.backup_file,
            "size": exported.file_size,
            "seconds": exported.duration,
            **incremental_metadata(exported, run.stored[table]),
        },
    )


@dg.op
def truncate_embedding_table(
    context: dg.OpExecutionContext,
    exported_tables: list[ExportedTable],
    backup_run: resources.BackupRunResource,
) -> dg.Output[dict[str, TruncatedTable]]:
    """Verify the stored files, then truncate in the transaction that locked out writers before the
    snapshot."""
    if backup_run.current.request.truncate_vector_tables:
        # Dagster must not repeat the run: it would back up the empty table.
        context.instance.add_run_tags(context.run_id, {MAX_RETRIES_TAG: "0"})
    with failing_step():
        truncated = backup_run.current.truncate()
    rows = {f"{table}: rows truncated": entry.rows_before for table, entry in truncated.items()}
    return dg.Output(truncated, metadata={"tables backed up": len(exported_tables), **rows})


@frame.log_step
def write_backup_log(
    context: dg.OpExecutionContext,
    backup_run: resources.BackupRunResource,
) -> Iterator[BackupEvent]:
    """Write the manifest and the log, even if a table failed, and report the result. Consolidate
    and prune if the settings request it and the backup is complete."""
    with failing_step():
        result = backup_run.current.finish()
    yield from report_backup(context, backup_run, result)


@frame.operation_job(BACKUP, first_step=resolve_backup_directory)
def vector_backup_job() -> None:
    """Back up the pgvector tables from one snapshot, and truncate the embedding table if
    requested."""
    timestamp = resolve_backup_directory()
    exported = pin_snapshot(timestamp).map(export_table)
    truncate_embedding_table(exported.collect())
    write_backup_log(timestamp)
