"""What the jobs have in common: how they run, their last step, steps and progress per table."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import dagster as dg
from dagster._core.events import EngineEventData
from dagster._core.storage.tags import RETRY_ON_ASSET_OR_OP_FAILURE_TAG

from vector_backup_pipeline.engine.progress import Progress, ProgressListener, progress_line
from vector_backup_pipeline.engine.results import readable_size
from vector_backup_pipeline.operations import Operation
from vector_backup_pipeline.outcome import location_metadata
from vector_backup_pipeline.resources import RunResource
from vector_backup_pipeline.run_config import flat_config

_T = TypeVar("_T")

_NOT_IN_A_KEY = re.compile(r"[^A-Za-z0-9_]")


@dg.failure_hook
def decide_retry(context: dg.HookContext) -> None:
    """Tag the run for Dagster's run retries, if they are enabled: it is repeated if `can_retry` is
    true for each of its errors. A retry inherits the tag."""
    error = context.op_exception
    metadata = error.metadata if isinstance(error, dg.Failure) else {}
    can_retry = "can_retry" in metadata and bool(metadata["can_retry"].value)
    run = context.instance.get_run_by_id(context.run_id)
    if can_retry and run is not None and run.tags.get(RETRY_ON_ASSET_OR_OP_FAILURE_TAG) == "false":
        return
    tag = {RETRY_ON_ASSET_OR_OP_FAILURE_TAG: str(can_retry).lower()}
    context.instance.add_run_tags(context.run_id, tag)


def operation_job(
    operation: Operation, first_step: dg.OpDefinition
) -> Callable[[Callable[..., None]], dg.JobDefinition]:
    """A decorator that turns a function composing the steps into the operation's job."""
    return dg.job(
        name=operation.job_name,
        config=flat_config(operation, first_step.name),
        # One process holds the run's connections and state for all steps.
        executor_def=dg.in_process_executor,
        # A retried run cannot use them any more, so it repeats all steps.
        tags={"dagster/retry_strategy": "ALL_STEPS"},
        hooks={decide_retry},
    )


def log_step(function: Callable[..., Any]) -> dg.OpDefinition:
    """The step that writes the log and reports the result, even if other steps failed.

    Dagster skips steps that depend on a failed one, so this step depends only on the first one; its
    low priority makes it the last one.
    """
    return dg.op(
        ins={"start": dg.In(dg.Nothing)},
        out=dg.Out(dict[str, object], description="The result of the run."),
        tags={"dagster/priority": "-10"},
    )(function)


def mapping_keys(names: Sequence[str]) -> list[str]:
    """A mapping key for each name, such as of a table: with only the characters that Dagster
    allows, and a number if two are equal."""
    keys: list[str] = []
    for name in names:
        key = base = _NOT_IN_A_KEY.sub("_", name)
        number = 2
        while key in keys:
            key, number = f"{base}_{number}", number + 1
        keys.append(key)
    return keys


def mapped_steps(
    step: str, parts: Iterable[_T], names: Sequence[str]
) -> Iterator[dg.DynamicOutput[_T]]:
    """The outputs that start a step for each part of a run."""
    for part, key in zip(parts, mapping_keys(names), strict=True):
        metadata = part_metadata(part) | {"step": f"{step}[{key}]"}
        yield dg.DynamicOutput(part, mapping_key=key, metadata=metadata)


def part_metadata(part: Any) -> dict[str, Any]:
    """The fields of a dataclass as the UI shows them. A `size` is in bytes."""
    metadata: dict[str, Any] = {}
    for name, value in vars(part).items():
        if name == "directory":
            value = location_metadata(value)
        elif name == "size":
            value = readable_size(value)
        elif isinstance(value, tuple):
            value = ", ".join(value)
        if value is not None:
            metadata[name.replace("_", " ")] = value
    return metadata


def plain_keys(keys: Iterable[dg.AssetKey]) -> dict[dg.AssetKey, dg.AssetKey]:
    """A key for each to define an asset with, before it gets its own: Dagster makes identifiers of
    the keys, which fails for names that are not ASCII, or differ only in other characters."""
    named = list(dict.fromkeys(keys))
    plain = mapping_keys(["/".join(key.path) for key in named])
    return {key: dg.AssetKey(name) for key, name in zip(named, plain, strict=True)}


def table_progress(
    context: dg.OpExecutionContext, run: RunResource[Any], table: str
) -> ProgressListener:
    """A listener that shows a table's progress at the terminal, and every `progress_every` rows as
    an event of the run, for the UI and for callers of GraphQL."""
    progress = run.progress
    next_at = every = run.current.request.progress_every

    def listener(moment: Progress) -> None:
        nonlocal next_at
        progress.progressed(moment)
        if moment.rows >= next_at:
            next_at = moment.rows - moment.rows % every + every
            numbers = {
                "rows_per_second": moment.rows_per_second,
                "megabytes_per_second": moment.megabytes_per_second,
                "percent": moment.percent,
                "seconds_left": moment.seconds_left,
            }
            metadata: dict[str, str | int | float] = {
                "table": moment.table,
                "rows": moment.rows,
                "size": readable_size(moment.bytes),
                **{
                    label: round(number, 1)
                    for label, number in numbers.items()
                    if number is not None
                },
            }
            context.instance.report_engine_event(
                f"{moment.table}: {progress_line(moment)}",
                context.dagster_run,
                EngineEventData(metadata=metadata),
                step_key=context.get_step_execution_context().step.key,
            )

    progress.table_started(table)
    return listener
