"""Prove the target, make the restore visible, measure what its searches find."""

import dagster as dg

from vector_backup_pipeline.engine.restore.report import recall_line
from vector_backup_pipeline.outcome import failing_step
from vector_backup_pipeline.resources import RestoreRunResource


@dg.op(ins={"rows": dg.In(int)})
def prove_restore(
    rows: int,
    restore_run: RestoreRunResource,
) -> dg.Output[dict[str, bool | None]]:
    """Count rows and compare content digests in the target; commit only if all of them hold."""
    with failing_step():
        run = restore_run.current
        proved = run.prove()
        recall = run.measure_recall()
    found = "\n".join(f"- {recall_line(each).strip(' ~')}" for each in recall)
    digests = {
        f"{table}: digest": "not comparable" if matches is None else "equal"
        for table, matches in proved.items()
    }
    return dg.Output(
        proved, metadata={"rows": rows, **digests, "recall": dg.MetadataValue.md(found or "none")}
    )
