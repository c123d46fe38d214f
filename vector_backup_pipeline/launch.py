"""Running the jobs in this process, for the terminal."""

import logging
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import dagster as dg
from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME
from dagster._core.errors import (
    DagsterExecutionInterruptedError,
    DagsterHomeNotSetError,
    DagsterInvariantViolationError,
)
from dagster._core.storage.tags import REPOSITORY_LABEL_TAG

from vector_backup_pipeline.engine.cancellation import last_signal
from vector_backup_pipeline.engine.errors import BackupError, InvalidParams, RunCancelled
from vector_backup_pipeline.jobs.backup import vector_backup_job
from vector_backup_pipeline.jobs.prune import vector_prune_job
from vector_backup_pipeline.jobs.restore import vector_restore_job
from vector_backup_pipeline.jobs.verify import vector_verify_job
from vector_backup_pipeline.outcome import RunOutcome, RunResult, read_outcome
from vector_backup_pipeline.resources import (
    BackupRunResource,
    PruneRunResource,
    RestoreRunResource,
    RunResource,
    VerifyRunResource,
    default_resources,
)
from vector_backup_pipeline.run_config import with_log_level
from vector_backup_pipeline.settings import load_settings
from vector_backup_pipeline.terminal import TerminalProgressResource

# In the workspace that `vector-backup init` writes, unless VECTOR_BACKUP_DAGSTER_LOCATION names
# another.
LOCATION_NAME = "vector_backup_pipeline"


def launch_backup(run_config: dict[str, Any]) -> RunOutcome:
    """Run `vector_backup_job` to its end, in the instance of DAGSTER_HOME if there is one."""
    resources = {"backup_run": _interruptible(BackupRunResource)}
    return _launch(vector_backup_job, resources, run_config)


def launch_restore(run_config: dict[str, Any]) -> RunOutcome:
    """Run `vector_restore_job` to its end, in the instance of DAGSTER_HOME if there is one."""
    resources = {"restore_run": _interruptible(RestoreRunResource)}
    return _launch(vector_restore_job, resources, run_config)


def launch_verification(run_config: dict[str, Any]) -> RunOutcome:
    """Run `vector_verify_job` to its end, in the instance of DAGSTER_HOME if there is one."""
    resources = {"verify_run": _interruptible(VerifyRunResource)}
    return _launch(vector_verify_job, resources, run_config)


def launch_prune(run_config: dict[str, Any]) -> RunOutcome:
    """Run `vector_prune_job` to its end, in the instance of DAGSTER_HOME if there is one."""
    resources = {"prune_run": _interruptible(PruneRunResource)}
    return _launch(vector_prune_job, resources, run_config)


def _launch(
    job: dg.JobDefinition,
    resources: Mapping[str, object],
    run_config: dict[str, Any],
) -> RunOutcome:
    config = job.config_mapping
    assert config is not None  # noqa: S101 - all jobs have a flat config.
    in_process = job.graph.to_job(
        name=job.name,
        # Dagster's log lines stay off the terminal; the instance has them.
        config=with_log_level(config, "CRITICAL"),
        executor_def=dg.in_process_executor,
        resource_defs={**default_resources(), **resources}
        | {"progress": TerminalProgressResource()},
        tags=job.tags,
    )
    run_id = str(uuid.uuid4())
    with dagster_instance() as instance:
        # An interrupted run's own tear-down tells it, and the outcome says so.
        with suppress(KeyboardInterrupt, DagsterExecutionInterruptedError):
            in_process.execute_in_process(
                run_config=run_config,
                instance=instance,
                run_id=run_id,
                tags=_history_tags(),
                raise_on_error=False,
            )
        entries = instance.all_logs(run_id)
    return read_outcome(e.dagster_event for e in entries if e.dagster_event is not None)


def _history_tags() -> dict[str, str]:
    """The tag by which Dagster's UI files a run in its job's history."""
    location = load_settings().dagster_location or LOCATION_NAME
    return {REPOSITORY_LABEL_TAG: f"{SINGLETON_REPOSITORY_NAME}@{location}"}


def _interruptible(kind: type[RunResource[Any]]) -> RunResource[Any]:
    """A run's resource for this process, whose interrupt is its user's request to end the run.

    Without that request in its storage Dagster takes the run for one that crashed.
    """

    # mypy knows no class whose base is a value, and each kind of run needs this of its own.
    class Interruptible(kind):  # type: ignore[misc, valid-type]
        def _canceller(self, _: dg.InitResourceContext) -> str:
            return f"{last_signal() or 'a signal'} to the command"

        def _ended(
            self, context: dg.InitResourceContext, result: RunResult, error: BackupError | None
        ) -> None:
            super()._ended(context, result, error)
            if isinstance(error, RunCancelled) and context.instance and context.run:
                context.instance.report_run_canceling(
                    context.run, "The terminal interrupted the run."
                )

    return Interruptible()


@contextmanager
def dagster_instance() -> Iterator[dg.DagsterInstance]:
    """The instance of DAGSTER_HOME, or one that forgets everything.

    Raises:
        InvalidParams: DAGSTER_HOME names no directory.
    """
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
