"""Answers about runs: their end and their status."""

from __future__ import annotations

from typing import Any

from fastapi.responses import JSONResponse

from vector_backup_pipeline.api import envelope
from vector_backup_pipeline.api.operations import Operation, failure_text
from vector_backup_pipeline.api.root_name import with_root_name
from vector_backup_pipeline.api.run_progress import RunProgress
from vector_backup_pipeline.engine.errors import RunCancelled, http_status_of
from vector_backup_pipeline.outcome import RunOutcome


def end_answer(
    operation: Operation[Any], progress: RunProgress, task_id: str | None, root: str
) -> JSONResponse:
    """The answer to a call that waited for the run."""
    outcome = outcome_of_end(progress, root)
    more: dict[str, Any] = {"run_id": progress.run_id}
    if outcome.error_type is None and outcome.result is not None:
        was_done = outcome.result.get(operation.performed)
        response = operation.done if was_done else operation.nothing_done
        return envelope.success(response, {**outcome.result, **more})
    error_type = str(outcome.error_type)
    if outcome.result is not None:
        more["result"] = outcome.result
    result = outcome.result or {}
    has_reached_tables = bool(result.get("tables_backed_up") or result.get("restore_results"))
    response = failure_text(
        operation,
        error_type,
        task_id,
        can_retry=outcome.can_retry,
        has_reached_tables=has_reached_tables,
    )
    return envelope.failure(
        http_status_of(error_type),
        error_type,
        operation.cancelled if progress.status == "CANCELED" else response,
        str(outcome.message),
        can_retry=outcome.can_retry,
        more=more,
    )


def status_answer(operation: Operation[Any], progress: RunProgress, root: str) -> JSONResponse:
    """The answer to a status request."""
    data: dict[str, Any] = {
        "run_id": progress.run_id,
        "status": progress.status,
        "created_at": envelope.moment(progress.created_at),
        "started_at": envelope.moment(progress.started_at),
        "ended_at": envelope.moment(progress.ended_at),
        "progress": {table: each.model_dump() for table, each in progress.tables.items()},
        "result": None,
        "error": None,
        "timestamp": envelope.now(),
    }
    response = operation.going_on
    if progress.has_ended:
        outcome = outcome_of_end(progress, root)
        data["result"] = outcome.result
        response = operation.done
        if outcome.error_type is not None:
            data["error"] = {
                "error_type": outcome.error_type,
                "code": http_status_of(outcome.error_type),
                "detail": outcome.message,
                "can_retry": outcome.can_retry,
            }
            was_cancelled = progress.status == "CANCELED"
            response = (
                operation.cancelled if was_cancelled else operation.failed(outcome.error_type)
            )
    return envelope.success(response, data)


def outcome_of_end(progress: RunProgress, root: str) -> RunOutcome:
    """How the run ended, with the backup root replaced by its name."""
    outcome = progress.outcome
    error_type, message = outcome.error_type, outcome.message
    if outcome.result is None and progress.status == "CANCELED":
        error_type = RunCancelled.error_type
        message = (
            "The run was canceled before it started."
            if progress.started_at is None
            else "The run was marked as canceled before it reported what it had done. It may still "
            "be running: see its events in Dagster, and the list of backups."
        )
    # The worker may have mounted the root elsewhere.
    known = (outcome.result or {}).get("backup_directory") or root
    known = root if known.startswith(root) else known
    return RunOutcome(
        result=with_root_name(outcome.result, known),
        error_type=error_type,
        message=with_root_name(message, known),
        can_retry=outcome.can_retry or progress.status == "CANCELED",
    )
