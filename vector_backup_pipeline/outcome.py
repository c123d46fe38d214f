"""A run's result and errors in the metadata of Dagster's events, written and read."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import dagster as dg
from pydantic import ValidationError

from vector_backup_pipeline.engine.cancellation import listening
from vector_backup_pipeline.engine.errors import BackupError
from vector_backup_pipeline.engine.results import RunResult
from vector_backup_pipeline.engine.storage.object_url import is_url
from vector_backup_pipeline.operations import OPERATIONS, Operation

_RESULTS = {operation.result_key: operation.result for operation in OPERATIONS}


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended, as read from its events. `result` is None if the run has none."""

    result: dict[str, Any] | None
    error_type: str | None
    message: str | None
    can_retry: bool


def outcome_metadata(
    operation: Operation, result: RunResult, error: BackupError | None
) -> dict[str, dg.MetadataValue]:
    """The result as a table and as JSON, and the error that failed the run, if any."""
    as_json = result.as_json()
    metadata = _overview(as_json)
    metadata[operation.result_key] = dg.MetadataValue.json(as_json)
    return metadata | (error_metadata(error) if error else {})


def location_metadata(location: str) -> dg.MetadataValue:
    """A directory or file as the UI shows it: a path, or a URL of object storage."""
    return dg.MetadataValue.url(location) if is_url(location) else dg.MetadataValue.path(location)


def _overview(result: Mapping[str, Any]) -> dict[str, dg.MetadataValue]:
    """The tables or locations of a result with their plain values, or its sets, as a table; nothing
    if there are none."""
    tables = {**result.get("tables_backed_up", {}), **result.get("restore_results", {})}
    entries = [{"table": table, **entry} for table, entry in tables.items()]
    rows: list[dict[str, object]] = [
        {key: value for key, value in entry.items() if not isinstance(value, (dict, list))}
        for entry in [*entries, *result.get("locations", ())]
    ]
    for verdict in result.get("sets", ()):
        drill = verdict["drill"]
        rows.append(
            {
                "set": verdict["timestamp"],
                "directory": verdict["backup_path"],
                "files passed": verdict["files_passed"],
                "restore test passed": drill["passed"] if drill else "not made",
            }
        )
    if not rows:
        return {}
    columns = list(dict.fromkeys(column for row in rows for column in row))
    cells: list[list[object]] = [[*columns], ["---"] * len(columns)]
    cells += [[row.get(column, "") for column in columns] for row in rows]
    lines = [" | ".join(str(cell).replace("|", r"\|") for cell in line) for line in cells]
    return {"overview": dg.MetadataValue.md("\n".join(f"| {line} |" for line in lines))}


def error_metadata(error: BackupError) -> dict[str, dg.MetadataValue]:
    return {
        "error_type": dg.MetadataValue.text(error.error_type),
        "error": dg.MetadataValue.text(error.message),
        "can_retry": dg.MetadataValue.bool(error.can_retry),
    }


@contextmanager
def failing_step() -> Iterator[None]:
    """Let a `BackupError` fail the step with its type in the metadata, without a retry: the
    snapshot is the run's, so only the whole run can be tried again. A signal cancels the work of
    the step, and reaches Dagster, which ends the run, when the step has cleaned up."""
    try:
        with listening():
            yield
    except BackupError as error:
        # The stack of the error itself is only of use if it is a defect.
        is_defect = error.error_type == BackupError.error_type
        raise dg.Failure(
            description=f"{error.error_type}: {error.message}",
            metadata=error_metadata(error),
            allow_retries=False,
        ) from (error if is_defect else None)


def read_outcome(events: Iterable[dg.DagsterEvent]) -> RunOutcome:
    """The outcome by a run's events."""
    return outcome_of(
        {label: value.value for label, value in _metadata_of(event).items()} for event in events
    )


def outcome_of_run(instance: dg.DagsterInstance, run_id: str) -> RunOutcome:
    """The outcome of a run of that instance."""
    entries = instance.all_logs(run_id)
    return read_outcome(e.dagster_event for e in entries if e.dagster_event is not None)


def outcome_of(events: Iterable[Mapping[str, Any]]) -> RunOutcome:
    """The outcome by the metadata of a run's events (plain values by label): the error beside the
    result, else that of the first failed step."""
    result: dict[str, Any] | None = None
    error: Mapping[str, Any] = {}
    for metadata in events:
        key = next((key for key in _RESULTS if key in metadata), None)
        if key is not None:
            result = _in_order(_RESULTS[key], metadata[key])
            error = metadata if "error_type" in metadata else error
        elif "error_type" in metadata and not error:
            error = metadata
    if not error and result is None:
        message = "The run ended without a result. See its events in Dagster."
        return RunOutcome(None, BackupError.error_type, message, BackupError.can_retry)
    return RunOutcome(
        result=result,
        error_type=str(error["error_type"]) if error else None,
        message=str(error["error"]) if error else None,
        can_retry=bool(error["can_retry"]) if error else False,
    )


def _in_order(model: type[RunResult], result: dict[str, Any]) -> dict[str, Any]:
    """Dagster's storage sorts keys; the model puts its fields in their order again."""
    try:
        return model.model_validate(result).as_json()
    except ValidationError:
        # The run was of another version.
        return result


def has_outcome(metadata: Mapping[str, Any]) -> bool:
    """Whether `outcome_of` reads anything in an event's metadata."""
    return "error_type" in metadata or any(key in metadata for key in _RESULTS)


def _metadata_of(event: dg.DagsterEvent) -> Mapping[str, Any]:
    if event.is_step_failure and event.step_failure_data.user_failure_data is not None:
        return event.step_failure_data.user_failure_data.metadata
    return getattr(event.event_specific_data, "metadata", None) or {}
