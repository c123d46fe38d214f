"""Load one table from its file."""

import time

import dagster as dg

from vector_backup_pipeline.engine.progress import Progress
from vector_backup_pipeline.engine.restore.run import TableLoad
from vector_backup_pipeline.ops.progress_events import ProgressEvents
from vector_backup_pipeline.outcome import failing_step
from vector_backup_pipeline.resources import ProgressResource, RestoreRunResource


@dg.op
def load_table(
    context: dg.OpExecutionContext,
    table_load: TableLoad,
    progress: ProgressResource,
    restore_run: RestoreRunResource,
) -> dg.Output[int]:
    """Send every row of the file to the target; nobody sees them until all tables are proven."""
    table = table_load.table
    started = time.monotonic()
    with failing_step():
        run = restore_run.current
        events = ProgressEvents(context, run.request.progress_every)

        def listener(moment: Progress) -> None:
            progress.progressed(moment)
            events.progressed(moment)

        progress.table_started(table)
        rows = run.load(table, listener)
    seconds = time.monotonic() - started
    return dg.Output(
        rows,
        metadata={
            "table": table,
            "target": table_load.target,
            "rows": rows,
            "seconds": round(seconds, 3),
            "MB/s": round(table_load.size / 1e6 / max(seconds, 1e-6), 1),
        },
    )
