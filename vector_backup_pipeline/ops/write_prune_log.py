"""Tell the prune's story: log, result."""

import dagster as dg

from vector_backup_pipeline.outcome import failing_step, outcome_metadata
from vector_backup_pipeline.resources import PruneRunResource


# Nothing of a place that failed reaches it, since what depends on a failed step is skipped; the
# priority makes it the last one to run.
@dg.op(
    ins={"found": dg.In(dg.Nothing)},
    out=dg.Out(dict[str, object], description="The prune's result."),
    tags={"dagster/priority": "-10"},
)
def write_prune_log(prune_run: PruneRunResource) -> dg.Output[dict[str, object]]:
    """Write the log of each place from which something went, and show the result."""
    with failing_step():
        run = prune_run.current
        result = run.finish()
    prune_run.result_is_told()
    return dg.Output(result.as_json(), metadata=outcome_metadata(result, run.error))
