"""Running the backup job in this process, for the terminal."""

import logging
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import dagster as dg
from dagster._core.errors import (
    DagsterExecutionInterruptedError,
    DagsterHomeNotSetError,
    DagsterInvariantViolationError,
)

from vector_backup_pipeline.engine.errors import BackupError, InvalidParams, RunCancelled
from vector_backup_pipeline.engine.postgres.connection import ConnectionSettings
from vector_backup_pipeline.engine.results import BackupResult
from vector_backup_pipeline.engine.secrets import SecretText
from vector_backup_pipeline.jobs.backup import (
    VectorBackupConfig,
    spread_over_steps,
    vector_backup_job,
)
from vector_backup_pipeline.outcome import RunOutcome, read_outcome
from vector_backup_pipeline.resources import BackupRunResource, default_resources
from vector_backup_pipeline.settings import load_settings
from vector_backup_pipeline.terminal import TerminalProgressResource


def check_parameters(parameters: dict[str, Any], db_connection: str | None) -> None:
    """Say what is wrong with a call before a run is made of it.

    Raises:
        InvalidParams: as the job itself would.
    """
    VectorBackupConfig(**parameters).request(load_settings())
    if db_connection is not None:
        ConnectionSettings.from_caller(SecretText(db_connection))


def launch_backup(run_config: dict[str, Any]) -> RunOutcome:
    """Run `vector_backup_job` to its end, in the instance of DAGSTER_HOME if there is one."""
    job = vector_backup_job.graph.to_job(
        name=vector_backup_job.name,
        config=_quiet_config,
        executor_def=dg.in_process_executor,
        resource_defs=default_resources()
        | {"backup_run": _InterruptibleRun(), "progress": TerminalProgressResource()},
        tags=vector_backup_job.tags,
    )
    run_id = str(uuid.uuid4())
    with _instance() as instance:
        # An interrupted run's own tear-down tells it, and the outcome says so.
        with suppress(KeyboardInterrupt, DagsterExecutionInterruptedError):
            job.execute_in_process(
                run_config=run_config, instance=instance, run_id=run_id, raise_on_error=False
            )
        entries = instance.all_logs(run_id)
    return read_outcome(e.dagster_event for e in entries if e.dagster_event is not None)


class _InterruptibleRun(BackupRunResource):
    """An interrupt of this process is its user's request to end the run.

    Without that request in its storage Dagster takes the run for one that crashed.
    """

    def _ended(
        self, context: dg.InitResourceContext, result: BackupResult, error: BackupError | None
    ) -> None:
        super()._ended(context, result, error)
        if isinstance(error, RunCancelled) and context.instance and context.run:
            context.instance.report_run_canceling(context.run, "The terminal interrupted the run.")


@dg.config_mapping
def _quiet_config(config: VectorBackupConfig) -> dg.RunConfig:
    """The job's own mapping, with Dagster's log lines kept off the terminal; the instance has
    them."""
    spread = spread_over_steps(config)
    return dg.RunConfig(
        ops=spread.ops,
        resources=spread.resources,
        loggers={"console": {"config": {"log_level": "CRITICAL"}}},
    )


@contextmanager
def _instance() -> Iterator[dg.DagsterInstance]:
    # Of the run itself the instance keeps everything; this is what Dagster says of itself.
    logging.getLogger("dagster").setLevel(logging.ERROR)
    if not os.environ.get("DAGSTER_HOME"):
        with dg.DagsterInstance.ephemeral() as instance:
            yield instance
        return
    try:
        persistent = dg.DagsterInstance.get()
    except (DagsterInvariantViolationError, DagsterHomeNotSetError) as error:
        raise InvalidParams(f"DAGSTER_HOME: {error}") from error
    with persistent as instance:
        yield instance
