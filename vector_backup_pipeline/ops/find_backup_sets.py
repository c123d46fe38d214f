"""Find the sets to verify, fan out one step a set."""

from collections.abc import Iterator

import dagster as dg
from pydantic import Field

from vector_backup_pipeline.engine.parameters import DEFAULT_WORKERS
from vector_backup_pipeline.engine.restore.request import DEFAULT_PROBES
from vector_backup_pipeline.engine.verification.request import VerifyRequest
from vector_backup_pipeline.engine.verification.run import SetToVerify, VerifyRun
from vector_backup_pipeline.outcome import failing_step, place_metadata
from vector_backup_pipeline.resources import (
    BackupStorageResource,
    DrillServerResource,
    VerifyRunResource,
)
from vector_backup_pipeline.settings import load_settings


class VerifyParameters(dg.Config):
    """What may be asked of a verification."""

    timestamp: str | None = Field(
        default=None,
        description="Which set: YYYYMMDD_HHMMSS, or latest for the newest complete one of each "
        "location and source database, and damaged ones that may be newer. Default: every set.",
    )
    source_database: str | None = Field(
        default=None,
        description="Database whose sets to verify, as vector-backup list shows it: its name, or "
        "{system_identifier}/{name} if servers share the name. Default: all databases.",
    )
    backup_path: str | None = Field(
        default=None,
        description="Where the sets are: relative to the root's parent, or absolute under the "
        "root. Default: every place under the root.",
    )
    task_id: str | None = Field(
        default=None, description="Short for the backup directory of this task."
    )
    drill: bool = Field(
        default=False,
        description="Restore each set into a database of its own too, prove it there, drop it.",
    )
    workers: int = Field(default=DEFAULT_WORKERS, description="Parallel connections of a drill.")
    probes: int = Field(
        default=DEFAULT_PROBES,
        description="Searches for each dimension to measure a drill's recall@10; 0: none.",
    )

    def request(self) -> VerifyRequest:
        """The parameters, checked.

        Raises:
            InvalidParams: one of them does not make sense.
        """
        return VerifyRequest(
            timestamp=self.timestamp or None,
            source_database=self.source_database or None,
            backup_path=self.backup_path or None,
            task_id=self.task_id or None,
            drill=self.drill,
            workers=self.workers,
            probes=self.probes,
        )


@dg.op(out=dg.DynamicOut(SetToVerify))
def find_backup_sets(
    context: dg.OpExecutionContext,
    config: VerifyParameters,
    backup_storage: BackupStorageResource,
    drill_server: DrillServerResource,
    verify_run: VerifyRunResource,
) -> Iterator[dg.DynamicOutput[SetToVerify]]:
    """Find the sets; give each to a step of its own."""

    def make_run() -> VerifyRun:
        settings = load_settings()
        return VerifyRun(
            config.request(),
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
