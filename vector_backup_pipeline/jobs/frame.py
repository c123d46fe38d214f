"""What all jobs have in common."""

from collections.abc import Callable

import dagster as dg

from vector_backup_pipeline.operations import Operation
from vector_backup_pipeline.run_config import flat_config


def job_of(
    operation: Operation, first_step: str
) -> Callable[[Callable[..., None]], dg.JobDefinition]:
    """Makes the operation's job of a function that composes its steps."""
    return dg.job(
        name=operation.job_name,
        config=flat_config(operation, first_step),
        # One process holds the run's connections and state for all steps.
        executor_def=dg.in_process_executor,
        # A retried run can't use them any more, so it repeats all steps.
        tags={"dagster/retry_strategy": "ALL_STEPS"},
    )
