"""Tell the verification's story: log, result, asset checks."""

from collections.abc import Iterator

import dagster as dg

from vector_backup_pipeline.assets import evaluations
from vector_backup_pipeline.outcome import failing_step, outcome_metadata
from vector_backup_pipeline.resources import VerifyRunResource
from vector_backup_pipeline.settings import load_settings


# Nothing of a set that failed reaches it, since what depends on a failed step is skipped; the
# priority makes it the last one to run.
@dg.op(
    ins={"found": dg.In(dg.Nothing)},
    out=dg.Out(dict[str, object], description="The verification's result."),
    tags={"dagster/priority": "-10"},
)
def write_verify_log(
    verify_run: VerifyRunResource,
) -> Iterator[dg.AssetCheckEvaluation | dg.Output[dict[str, object]]]:
    """Write the log, whatever became of the sets, and show each table's check green or red."""
    with failing_step():
        run = verify_run.current
        result = run.finish()
        tables = load_settings().tables
    yield from evaluations(result, tables)
    verify_run.result_is_told()
    yield dg.Output(result.as_json(), metadata=outcome_metadata(result, run.error))
