"""Find the sets to verify, fan out one step a set."""

from collections.abc import Iterator

import dagster as dg

from vector_backup_pipeline.engine.verification.run import SetToVerify, VerifyRun
from vector_backup_pipeline.outcome import failing_step, place_metadata
from vector_backup_pipeline.parameters.verify import VerifyParameters
from vector_backup_pipeline.resources import (
    BackupStorageResource,
    DrillServerResource,
    VerifyRunResource,
)
from vector_backup_pipeline.run_config import config_schema
from vector_backup_pipeline.settings import load_settings


@dg.op(
    config_schema=config_schema(VerifyParameters, without="scratch_connection"),
    out=dg.DynamicOut(SetToVerify),
)
def find_backup_sets(
    context: dg.OpExecutionContext,
    backup_storage: BackupStorageResource,
    drill_server: DrillServerResource,
    verify_run: VerifyRunResource,
) -> Iterator[dg.DynamicOutput[SetToVerify]]:
    """Find the sets; give each to a step of its own."""

    def make_run() -> VerifyRun:
        settings = load_settings()
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
