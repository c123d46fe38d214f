"""The steps of a verification."""

from collections.abc import Iterator

import dagster as dg

from vector_backup_pipeline.assets import evaluations
from vector_backup_pipeline.engine.results import SetVerdict
from vector_backup_pipeline.engine.verification.report import verdict_lines
from vector_backup_pipeline.engine.verification.run import SetToVerify, VerifyRun
from vector_backup_pipeline.operations import VERIFY
from vector_backup_pipeline.outcome import failing_step, place_metadata
from vector_backup_pipeline.parameters.verify import VerifyParameters
from vector_backup_pipeline.resources import (
    BackupStorageResource,
    DrillServerResource,
    ProgressResource,
    VerifyRunResource,
)
from vector_backup_pipeline.run_config import config_schema
from vector_backup_pipeline.settings import Settings


@dg.op(
    config_schema=config_schema(VERIFY),
    out=dg.DynamicOut(SetToVerify),
)
def find_backup_sets(
    context: dg.OpExecutionContext,
    backup_storage: BackupStorageResource,
    drill_server: DrillServerResource,
    verify_run: VerifyRunResource,
) -> Iterator[dg.DynamicOutput[SetToVerify]]:
    """Find the sets; give each to a step of its own."""

    def make_run(settings: Settings) -> VerifyRun:
        return VerifyRun(
            VerifyParameters(**context.op_config),
            backup_storage.open_root(settings),
            settings.timestamps,
            drill_server.open,
            lock_timeout=settings.lock_timeout,
            run_id=context.run_id,
        )

    with failing_step():
        found = verify_run.begin(make_run).find()
    for each in found:
        yield dg.DynamicOutput(
            each,
            mapping_key=each.key,
            metadata={
                "directory": place_metadata(each.directory),
                "timestamp": each.timestamp,
            },
        )


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


# Dagster skips what depends on a failed set, so it depends on the first step alone; the priority
# makes it the last one.
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
        result = verify_run.current.finish()
    yield from evaluations(result, verify_run.settings.tables)
    yield dg.Output(result.as_json(), metadata=verify_run.report(result))
