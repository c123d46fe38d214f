"""Starting a backup or a restore, following it, cancelling it."""

from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse

from vector_backup_pipeline.api import envelope
from vector_backup_pipeline.api.bodies import read_body
from vector_backup_pipeline.api.documents import answers, request_body
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
    Query(description="Answer when the run has ended; false: as soon as it is launched, with 202."),
]
_RunId = Annotated[
    str,
    Path(
        description="The run's id, as the call that launched it was told.",
        examples=["9a3c1f2e-6b0d-4a57-8f11-2d3c4b5a6978"],
    ),
]


@router.post(
    "/backup",
    summary="Back up the vector tables",
    responses=answers("backup", "backed_up", "backup_started", 400, 401, 404, 409, 413, 500, 503),
    openapi_extra=request_body(BackupParameters),
    tags=["backup"],
)
async def back_up(request: Request, services: ServicesOf, wait: _Wait = True) -> JSONResponse:
    """Launches `vector_backup_job` and waits for its end. An empty body takes every default."""
    return await _run(BACKUP, request, services, wait=wait)


@router.post(
    "/restore",
    summary="Restore a backup set",
    responses=answers("restore", "restored", "restore_started", 400, 401, 404, 409, 413, 500, 503),
    openapi_extra=request_body(RestoreParameters),
    tags=["restore"],
)
async def restore(request: Request, services: ServicesOf, wait: _Wait = True) -> JSONResponse:
    """Launches `vector_restore_job` and waits for its end: all tables or none, proven before
    anybody sees them. `timestamp` must be given: that of a set, or `latest`."""
    return await _run(RESTORE, request, services, wait=wait)


@router.get(
    "/backup/{run_id}",
    summary="How far a backup is",
    responses=answers("run", "backup_status", 401, 404, 500, 503),
    tags=["backup"],
)
async def backup_status(run_id: _RunId, services: ServicesOf) -> JSONResponse:
    """Its status as Dagster has it, the progress of each table, and its result or error when it
    has ended. At most a second old."""
    return await _status(BACKUP, run_id, services)


@router.get(
    "/restore/{run_id}",
    summary="How far a restore is",
    responses=answers("run", "restore_status", 401, 404, 500, 503),
    tags=["restore"],
)
async def restore_status(run_id: _RunId, services: ServicesOf) -> JSONResponse:
    """Its status as Dagster has it, the progress of each table, and its result or error when it
    has ended. At most a second old."""
    return await _status(RESTORE, run_id, services)


@router.delete(
    "/backup/{run_id}",
    summary="Cancel a backup",
    status_code=202,
    responses=answers("run", "backup_cancelling", 401, 404, 409, 500, 503),
    tags=["backup"],
)
async def cancel_backup(run_id: _RunId, services: ServicesOf) -> JSONResponse:
    """Asks the run to end. It leaves no unfinished file; what it had finished is told by its
    status. While a truncate commits, the cancellation waits for it."""
    return await _cancel(BACKUP, run_id, services)


@router.delete(
    "/restore/{run_id}",
    summary="Cancel a restore",
    status_code=202,
    responses=answers("run", "restore_cancelling", 401, 404, 409, 500, 503),
    tags=["restore"],
)
async def cancel_restore(run_id: _RunId, services: ServicesOf) -> JSONResponse:
    """Asks the run to end. The target is then as it was before, unless it was committed already."""
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
