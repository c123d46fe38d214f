"""Start, follow and cancel backups and restores."""

from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse

from vector_backup_pipeline.api import envelope
from vector_backup_pipeline.api.bodies import read_body
from vector_backup_pipeline.api.models import (
    BackupData,
    BackupStatusData,
    CancelingData,
    ResponseData,
    RestoreData,
    RestoreStatusData,
    StartedData,
)
from vector_backup_pipeline.api.openapi import (
    Responses,
    answer,
    errors,
    request_body,
    run_links,
)
from vector_backup_pipeline.api.operations import BACKUP, RESTORE, Operation
from vector_backup_pipeline.api.routes import BASE_PATH
from vector_backup_pipeline.api.run_answers import end_answer, status_answer
from vector_backup_pipeline.api.services import ServicesOf
from vector_backup_pipeline.parameters.backup import BackupParameters
from vector_backup_pipeline.parameters.restore import RestoreParameters

_P = TypeVar("_P", BackupParameters, RestoreParameters)

router = APIRouter(prefix=BASE_PATH)

_Wait = Annotated[
    bool,
    Query(description="Wait for the end of the run. If false, answer 202 when it is launched."),
]
_RunId = Annotated[
    str,
    Path(
        description="The run's id, from the call that launched it.",
        examples=["9a3c1f2e-6b0d-4a57-8f11-2d3c4b5a6978"],
    ),
]
_STATUS_ERRORS = errors(401, 404, 500, 503)
_CANCELING = {
    **answer(202, CancelingData, "Cancellation requested."),
    **errors(401, 404, 409, 500, 503),
}


def _run_answers(operation: str, data: type[ResponseData]) -> Responses:
    links = run_links(operation)
    return {
        **answer(200, data, "The run has ended and succeeded.", links=links),
        **answer(202, StartedData, "With `wait=false`: the run was launched.", links=links),
        **errors(400, 401, 404, 409, 413, 500, 503),
    }


@router.post(
    "/backup",
    summary="Back up the vector tables",
    responses=_run_answers("backup", BackupData),
    openapi_extra=request_body(BackupParameters),
    tags=["backup"],
)
async def back_up(request: Request, services: ServicesOf, wait: _Wait = True) -> JSONResponse:
    """Launches `vector_backup_job` and waits for its end. An empty body means all defaults."""
    return await _run(BACKUP, request, services, wait=wait)


@router.post(
    "/restore",
    summary="Restore a backup set",
    responses=_run_answers("restore", RestoreData),
    openapi_extra=request_body(RestoreParameters),
    tags=["restore"],
)
async def restore(request: Request, services: ServicesOf, wait: _Wait = True) -> JSONResponse:
    """Launches `vector_restore_job` and waits for its end. It restores all tables or none, and
    compares them with the backup before the commit. `timestamp` is required: a backup set's, or
    `latest`."""
    return await _run(RESTORE, request, services, wait=wait)


@router.get(
    "/backup/{run_id}",
    summary="Get the status of a backup",
    responses={
        **answer(200, BackupStatusData, "The run's status."),
        **_STATUS_ERRORS,
    },
    tags=["backup"],
)
async def backup_status(run_id: _RunId, services: ServicesOf) -> JSONResponse:
    """The run's status in Dagster, the progress of each table and, when the run has ended, its
    result or error. At most one second old."""
    return await _status(BACKUP, run_id, services)


@router.get(
    "/restore/{run_id}",
    summary="Get the status of a restore",
    responses={
        **answer(200, RestoreStatusData, "The run's status."),
        **_STATUS_ERRORS,
    },
    tags=["restore"],
)
async def restore_status(run_id: _RunId, services: ServicesOf) -> JSONResponse:
    """The run's status in Dagster, the progress of each table and, when the run has ended, its
    result or error. At most one second old."""
    return await _status(RESTORE, run_id, services)


@router.delete(
    "/backup/{run_id}",
    summary="Cancel a backup",
    status_code=202,
    responses=_CANCELING,
    tags=["backup"],
)
async def cancel_backup(run_id: _RunId, services: ServicesOf) -> JSONResponse:
    """Requests cancellation. The run removes unfinished files; its status shows what it finished.
    A truncate that is being committed is finished first."""
    return await _cancel(BACKUP, run_id, services)


@router.delete(
    "/restore/{run_id}",
    summary="Cancel a restore",
    status_code=202,
    responses=_CANCELING,
    tags=["restore"],
)
async def cancel_restore(run_id: _RunId, services: ServicesOf) -> JSONResponse:
    """Requests cancellation. The target stays unchanged, unless the restore was committed."""
    return await _cancel(RESTORE, run_id, services)


async def _run(
    operation: Operation[_P], request: Request, services: ServicesOf, *, wait: bool
) -> JSONResponse:
    parameters = await read_body(request, operation.parameters)
    # For the words of a refusal.
    request.state.task_id = task_id = parameters.task_id
    run_id = await services.runs.start(operation, parameters)
    if not wait:
        return envelope.success(operation.started, {"run_id": run_id}, code=202)
    progress = await services.runs.end_of(operation, run_id, request)
    return end_answer(operation, progress, task_id, services.root.location)


async def _status(operation: Operation[Any], run_id: str, services: ServicesOf) -> JSONResponse:
    progress = await services.runs.read(operation, run_id)
    return status_answer(operation, progress, services.root.location)


async def _cancel(operation: Operation[Any], run_id: str, services: ServicesOf) -> JSONResponse:
    await services.runs.cancel(operation, run_id)
    return envelope.success(operation.cancelling, {"run_id": run_id}, code=202)
