"""Verify one set: its files, and in a drill its restore."""

import dagster as dg

from vector_backup_pipeline.engine.results import SetVerdict
from vector_backup_pipeline.engine.verification.report import verdict_lines
from vector_backup_pipeline.engine.verification.run import SetToVerify
from vector_backup_pipeline.outcome import failing_step
from vector_backup_pipeline.resources import ProgressResource, VerifyRunResource


@dg.op
def verify_backup_set(
    context: dg.OpExecutionContext,
    set_to_verify: SetToVerify,
    progress: ProgressResource,
    verify_run: VerifyRunResource,
) -> dg.Output[SetVerdict | None]:
    """Read the set's files whole; restore them elsewhere if a drill is asked for. A set that was
    removed meanwhile is skipped."""
    progress.said(f"Verifying {set_to_verify.directory}, {set_to_verify.timestamp}")
    with failing_step():
        verdict = verify_run.current.verify(set_to_verify.key)
        if verdict is None:
            return dg.Output(None, metadata={"timestamp": set_to_verify.timestamp, "skipped": True})
        lines = "\n".join(verdict_lines(verdict))
        context.log.info(lines)
        if not verdict.passed:
            raise verify_run.current.error_of(set_to_verify.key)
    return dg.Output(
        verdict, metadata={"timestamp": verdict.timestamp, "verdict": dg.MetadataValue.md(lines)}
    )
