"""Export one table to one file."""

import dagster as dg

from vector_backup_pipeline.engine.backup.run import TableExport
from vector_backup_pipeline.engine.progress import Progress
from vector_backup_pipeline.engine.results import ExportedTable
from vector_backup_pipeline.ops.progress_events import ProgressEvents
from vector_backup_pipeline.outcome import failing_step
from vector_backup_pipeline.resources import BackupRunResource, ProgressResource


@dg.op
def export_table(
    context: dg.OpExecutionContext,
    table_export: TableExport,
    progress: ProgressResource,
    backup_run: BackupRunResource,
) -> dg.Output[ExportedTable]:
    """Stream every row that the table has in the snapshot into a file that appears when whole."""
    table = table_export.table
    with failing_step():
        run = backup_run.current
        events = ProgressEvents(context, run.request.progress_every)

        def listener(moment: Progress) -> None:
            progress.progressed(moment)
            events.progressed(moment)

        progress.table_started(table)
        exported = run.export(table, listener)
    return dg.Output(
        exported,
        metadata={
            "table": table,
            "rows": exported.row_count,
            "file": exported.backup_file,
            "size": exported.file_size,
            "seconds": exported.duration,
        },
    )
