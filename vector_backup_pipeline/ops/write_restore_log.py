"""Tell the restore's story: log and result."""

import dagster as dg

from vector_backup_pipeline.outcome import failing_step, outcome_metadata
from vector_backup_pipeline.resources import RestoreRunResource


# It depends on the first step alone, since what depends on a failed table would be skipped; the
# priority makes it the last one to run.
@dg.op(
    ins={"found": dg.In(dg.Nothing)},
    out=dg.Out(dict[str, object], description="The restore's result."),
    tags={"dagster/priority": "-10"},
)
def write_restore_log(restore_run: RestoreRunResource) -> dg.Output[dict[str, object]]:
    """Write the log, whatever became of the tables, and show the result."""
    with failing_step():
        run = restore_run.current
        result = run.finish()
    restore_run.result_is_told()
    return dg.Output(result.as_json(), metadata=outcome_metadata(result, run.error))
