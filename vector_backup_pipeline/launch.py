"""Running the jobs in this process, for the terminal."""

import logging
import os
import uuid
from collections.abc import Iterator
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

from vector_backup_pipeline.alerts import run_failed, watch_after_command
from vector_backup_pipeline.engine.errors import InvalidParams
from vector_backup_pipeline.jobs import JOBS
from vector_backup_pipeline.operations import Operation
from vector_backup_pipeline.outcome import RunOutcome, outcome_of_run
from vector_backup_pipeline.resources import job_resources
from vector_backup_pipeline.settings import Settings
from vector_backup_pipeline.terminal import TerminalProgressResource

# In the workspace that `vector-backup init` writes, unless VECTOR_BACKUP_DAGSTER_LOCATION names
# another.
LOCATION_NAME = "vector_backup_pipeline"


def launch(
    operation: Operation, run_config: dict[str, Any], settings: Settings, *, is_quiet: bool = False
) -> RunOutcome:
    """Run the operation's job to its end, in the instance of DAGSTER_HOME if there is one. With
    `is_quiet`, no progress is shown."""
    job = JOBS[operation]
    mapping = job.config_mapping
    assert mapping is not None  # noqa: S101 - all jobs have a flat config.
    # The terminal gets no log lines of Dagster's; the instance has them.
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    in_process = job.graph.to_job(
        name=job.name,
        config=dg.ConfigMapping(
            config_fn=lambda config: {**mapping.config_fn(config), **quiet},
            config_schema=mapping.config_schema,
        ),
        executor_def=dg.in_process_executor,
        resource_defs=job_resources(TerminalProgressResource(is_quiet=is_quiet)),
        tags=job.tags,
    )
    run_id = str(uuid.uuid4())
    # By this tag, Dagster's UI shows the run in its job's history.
    location = settings.dagster_location or LOCATION_NAME
    with dagster_instance() as instance:
        # An interrupted run reports its result while it is torn down.
        with suppress(KeyboardInterrupt, DagsterExecutionInterruptedError):
            in_process.execute_in_process(
                run_config=run_config,
                instance=instance,
                run_id=run_id,
                tags={
                    REPOSITORY_LABEL_TAG: f"{SINGLETON_REPOSITORY_NAME}@{location}",
                    **operation.tags(run_config, settings),
                },
                raise_on_error=False,
            )
        outcome = outcome_of_run(instance, run_id)
    run_failed(settings, operation, outcome, run_config.get("task_id"), run_id)
    watch_after_command(settings)
    return outcome


@contextmanager
def dagster_instance() -> Iterator[dg.DagsterInstance]:
    """The instance of DAGSTER_HOME, or an ephemeral one. Raises `InvalidParams` if DAGSTER_HOME is
    not a directory."""
    # The log of the run is in the instance; this is Dagster's own.
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
