"""The addresses: runs of each operation, backups and their files, health."""

import posixpath
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response
from pydantic import BeforeValidator

from vector_backup_pipeline.api import models
from vector_backup_pipeline.api.access import HEALTH_PATH
from vector_backup_pipeline.api.bodies import read_body
from vector_backup_pipeline.api.downloads import file_response
from vector_backup_pipeline.api.errors import DagsterUnavailable
from vector_backup_pipeline.api.metrics import Metrics
from vector_backup_pipeline.api.openapi import answer, errors, file_answers, request_body
from vector_backup_pipeline.api.operations import BACKUP, RESTORE, Operation
from vector_backup_pipeline.api.run_reader import RunProgress
from vector_backup_pipeline.api.runs import NO_DAEMON, Runs
from vector_backup_pipeline.engine.catalog.downloads import find_download
from vector_backup_pipeline.engine.catalog.locations import (
    find_directory,
    find_locations,
    list_backups,
)
from vector_backup_pipeline.engine.incremental.diff import SetDifference, find_pair
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.parameters.listing import ListParameters
from vector_backup_pipeline.parameters.model import Parameters
from vector_backup_pipeline.parameters.table_names import split_tables
from vector_backup_pipeline.parameters.types import TASK_ID_PATTERN, check_task_id
from vector_backup_pipeline.settings import Settings


@dataclass(frozen=True)
class Services:
    """The objects that the routes share."""

    settings: Settings
    root: BackupRoot
    runs: Runs
    metrics: Metrics

    def for_target(self, target: str | None) -> "Services":
        """With the settings and the root of a target. Raises `InvalidParams` if it is unknown."""
        if target is None:
            return self
        settings = self.settings.for_target(target)
        return replace(self, settings=settings, root=settings.open_root())

    def now(self) -> datetime:
        """In the settings' time zone, to the second."""
        return self.settings.timestamps.now().replace(microsecond=0)

    def moment(self, seconds: float | None) -> datetime | None:
        """`seconds` since 1970 in the settings' time zone."""
        timezone = self.settings.timestamps.timezone
        return None if seconds is None else datetime.fromtimestamp(seconds, timezone)


async def _services(request: Request) -> Services:
    # Asynchronous, since a plain `def` would need a thread, and slow storage can occupy them all.
    services: Services = request.app.state.services
    return services


def _described(kind: Any, description: str, example: str, alias: str | None = None) -> Any:
    return kind(alias=alias, description=description, examples=[example])


def _query(model: type[Parameters], key: str, **schema: Any) -> Any:
    """A parameter of the query like that of a command."""
    field = model.model_fields[key]
    extra = schema or None
    return Query(description=field.description, examples=field.examples, json_schema_extra=extra)


_Services = Annotated[Services, Depends(_services)]
_Target = Annotated[str | None, _query(Parameters, "target")]


async def _services_of_target(services: _Services, target: _Target = None) -> Services:
    return services.for_target(target)


_TargetServices = Annotated[Services, Depends(_services_of_target)]
_RunId = Annotated[
    UUID,
    _described(
        Path,
        "The run's id, from the call that launched it.",
        "9a3c1f2e-6b0d-4a57-8f11-2d3c4b5a6978",
    ),
]
_Wait = Annotated[
    bool,
    Query(description="Wait for the end of the run. If false, respond with 202 once launched."),
]
_TaskId = Annotated[str | None, _query(ListParameters, "task_id", pattern=TASK_ID_PATTERN)]
_GlobalOnly = Annotated[
    bool,
    # As in the older service, `?global_only=` without a value is false.
    BeforeValidator(lambda value: value or False),
    _query(ListParameters, "global_only"),
]
_EARLIER, _LATER = "20250720_234914", "20250721_234914"
_Timestamp = Annotated[str, _described(Path, "The backup set's timestamp.", _LATER)]
_From = Annotated[
    str, _described(Query, "The timestamp of the earlier set, or latest.", _EARLIER, "from")
]
_To = Annotated[str, _described(Query, "The timestamp of the later set, or latest.", _LATER)]
_Tables = Annotated[
    str | None,
    _described(
        Query,
        "Compare only these tables, comma-separated. Default: all of either set.",
        "langchain_pg_embedding",
    ),
]
_File = Annotated[
    str,
    _described(
        Path,
        "The file name from the list, percent-encoded once.",
        "langchain_pg_embedding_20250721_234914.csv",
    ),
]
_BASE_PATH = "/api/v0/data_pipeline/vector"
_FILE_PATH = f"{_BASE_PATH}/backup/files/{{timestamp}}/{{file}}"
_TEXT = {"schema": {"type": "string"}}
_METRICS = {"text/plain": _TEXT, "application/openmetrics-text": _TEXT}
router = APIRouter()


def _add_run_routes(operation: Operation) -> None:
    """The routes that start, follow and cancel the runs of an operation."""
    name, parameters = operation.base.name, operation.base.parameters
    path = f"{_BASE_PATH}/{name}"
    # Whatever is no UUID is another address, such as /restore/list.
    run_path = f"{path}/{{run_id:uuid}}"

    @router.post(
        path,
        name=operation.start_name,
        summary=f"Start a {name}",
        description=operation.start_help,
        responses={
            **answer(200, operation.data, "The run has ended and succeeded."),
            **answer(202, models.RunData, "With `wait=false`: the run was launched."),
            **errors(400, 401, 404, 409, 413, 500, 503),
        },
        openapi_extra=request_body(parameters),
        tags=[name],
    )
    async def start(
        request: Request, services: _Services, wait: _Wait = True, target: _Target = None
    ) -> JSONResponse:
        # For the text of an error.
        request.state.operation, request.state.task_id = operation, None
        body: Any = await read_body(request, parameters, target)
        request.state.task_id = body.task_id
        services = services.for_target(body.target)
        run_id = await services.runs.start(operation, body)
        if not wait:
            return _accepted(f"{operation.thing}已启动", run_id, services)
        progress = await services.runs.wait(operation, run_id, request)
        return _end(operation, progress, body.task_id, services)

    @router.get(
        run_path,
        name=f"{name}_status",
        summary=f"Get the status of a {name}",
        responses={
            **answer(200, models.StatusData, "The run's status."),
            **errors(401, 404, 500, 503),
        },
        tags=[name],
    )
    async def status(run_id: _RunId, services: _Services) -> JSONResponse:
        """The run's status in Dagster, the progress of each table and, when the run has ended, its
        result or error. At most one second old."""
        progress = await services.runs.read(operation, str(run_id))
        return _status(operation, progress, services)

    @router.delete(
        run_path,
        name=f"cancel_{name}",
        summary=f"Cancel a {name}",
        description=operation.cancel_help,
        status_code=202,
        responses={
            **answer(202, models.RunData, "Cancellation requested."),
            **errors(401, 404, 409, 500, 503),
        },
        tags=[name],
    )
    async def cancel(run_id: _RunId, services: _Services) -> JSONResponse:
        await services.runs.cancel(operation, str(run_id))
        return _accepted(f"{operation.thing}取消请求已提交", str(run_id), services)


_add_run_routes(BACKUP)
_add_run_routes(RESTORE)


def _accepted(response: str, run_id: str, services: Services) -> JSONResponse:
    data = models.RunData(response=response, run_id=run_id, timestamp=services.now())
    return models.respond(202, data)


def _end(
    operation: Operation, progress: RunProgress, task_id: str | None, services: Services
) -> JSONResponse:
    """The answer to a call that waited for the run."""
    result, error = _result(progress, services), progress.error
    data: dict[str, Any] = {"run_id": progress.run_id}
    if error is None:
        data |= {"response": operation.end_text(result or {}), **(result or {})}
        return models.respond(200, operation.data.model_construct(**data))
    data |= {
        "response": operation.failure_text(error, result, task_id),
        "error_type": error.error_type,
        "detail": error.detail,
        "timestamp": services.now(),
    }
    if error.can_retry:
        data["can_retry"] = True
    if result is not None:
        data["result"] = result
    return models.respond(error.code, models.ErrorData.model_construct(**data))


def _status(operation: Operation, progress: RunProgress, services: Services) -> JSONResponse:
    """The answer to a status request."""
    response, result, error = f"{operation.thing}进行中", None, None
    if progress.has_ended:
        result, error = _result(progress, services), progress.error
        response = f"{operation.thing}完成"
        if error is not None:
            response = operation.failure_text(error, result, None)
    data: dict[str, Any] = {
        "response": response,
        "run_id": progress.run_id,
        "status": progress.reading.status,
        "created_at": services.moment(progress.reading.created_at),
        "started_at": services.moment(progress.reading.started_at),
        "ended_at": services.moment(progress.reading.ended_at),
        "progress": progress.tables,
        "result": result,
        "error": error,
        "timestamp": services.now(),
    }
    return models.respond(200, models.StatusData.model_construct(**data))


def _result(progress: RunProgress, services: Services) -> dict[str, Any] | None:
    """The run's result, with the path of a restored set as in the list of backups."""
    result, root = progress.result, services.root.location
    info = result.get("backup_info") if result else None
    if result and info and root.startswith("/") and info["backup_path"].startswith(f"{root}/"):
        relative = posixpath.relpath(info["backup_path"], posixpath.dirname(root))
        return result | {"backup_info": info | {"backup_path": relative}}
    return result


@router.get(
    f"{_BASE_PATH}/restore/list",
    summary="List backups",
    responses={**answer(200, models.ListData, "The backup sets."), **errors(400, 401, 404, 500)},
    tags=["files"],
)
async def list_sets(
    services: _TargetServices, task_id: _TaskId = None, global_only: _GlobalOnly = False
) -> JSONResponse:
    """Backup sets by location, newest first. By default those of the root and of all tasks."""
    locations = await run_in_threadpool(
        find_locations, services.root, task_id=task_id or None, global_only=global_only
    )
    backups = list_backups(locations, services.root.timestamps)
    data = models.ListData(response="查询成功", **dict(backups), timestamp=services.now())
    return models.respond(200, data)


@router.get(
    f"{_BASE_PATH}/backup/diff",
    summary="Compare two backup sets",
    responses={
        **answer(200, models.DiffData, "The rows added, changed and removed."),
        **errors(400, 401, 404, 500),
    },
    tags=["files"],
)
async def diff(
    services: _TargetServices,
    from_: _From,
    to: _To,
    tables: _Tables = None,
    task_id: _TaskId = None,
) -> JSONResponse:
    """Count the rows of each table that were added, changed and removed between two sets of a
    location. Both need key files."""

    def compare() -> SetDifference:
        check_task_id(task_id)
        directory = find_directory(services.root, None, task_id or None)
        names = split_tables(tables) if tables else None
        return find_pair(directory, from_, to, names).difference()

    difference = await run_in_threadpool(compare)
    data = models.DiffData(
        response="查询成功", **difference.model_dump(by_alias=True), timestamp=services.now()
    )
    return models.respond(200, data)


@router.head(
    _FILE_PATH,
    name="download_headers",
    summary="Get the headers of a file of a backup set",
    response_class=Response,
    responses={**file_answers(with_body=False), **errors(400, 401, 404, 500, with_body=False)},
    tags=["files"],
)
@router.get(
    _FILE_PATH,
    summary="Download a file of a backup set",
    response_class=Response,
    responses={**file_answers(with_body=True), **errors(400, 401, 404, 416, 500)},
    tags=["files"],
)
async def download(
    request: Request,
    services: _TargetServices,
    timestamp: _Timestamp,
    file: _File,
    task_id: _TaskId = None,
    range_: Annotated[
        str | None,
        _described(
            Header,
            "A range of bytes. For several ranges, the whole file is sent.",
            "bytes=0-99",
            "Range",
        ),
    ] = None,
    if_range: Annotated[
        str | None, _described(Header, "An ETag: send the range of this version only.", '"1f-5c2a"')
    ] = None,
    if_none_match: Annotated[
        str | None, _described(Header, "An ETag: 304 if the file has not changed.", '"1f-5c2a"')
    ] = None,
) -> Response:
    """A data file, the manifest, the verification result or the log. To resume a download, send
    `Range`, with the `ETag` in `If-Range`. HEAD has no content and ignores ranges."""
    stored = await run_in_threadpool(find_download, services.root, timestamp, file, task_id or None)
    return await file_response(
        stored,
        send_body=request.method != "HEAD",
        if_none_match=if_none_match,
        if_range=if_range,
        range_=range_,
    )


@router.get(
    HEALTH_PATH,
    summary="Check whether Dagster answers and starts runs",
    responses={
        **answer(200, models.HealthData, "Dagster answers and starts runs."),
        **errors(500, 503),
    },
    tags=["health"],
)
async def healthz(services: _Services) -> JSONResponse:
    """503 if Dagster does not answer, or if it queues runs and the daemon that starts them is
    missing. Other missing daemons are only listed. Needs no token."""
    health = await services.runs.health.read()
    more: dict[str, Any] = {
        "dagster": health.version,
        "daemons": {name: "alive" if up else "missing" for name, up in health.daemons.items()},
        "timestamp": services.now(),
    }
    if not health.has_stuck_queue:
        return models.respond(200, models.HealthData(response="服务正常", **more))
    data = models.ErrorData(
        response="Dagster守护进程未运行，任务不会启动",
        error_type=DagsterUnavailable.error_type,
        detail=NO_DAEMON,
        can_retry=True,
        **more,
    )
    return models.respond(DagsterUnavailable.http_status, data)


@router.get(
    "/metrics",
    summary="Get metrics for Prometheus",
    response_class=Response,
    responses={200: {"description": "The metrics.", "content": _METRICS}, **errors(401, 500)},
    tags=["health"],
)
async def metrics(request: Request, services: _Services) -> Response:
    """Metrics of the backups and of the latest runs, in the text format or in OpenMetrics. If the
    root or Dagster cannot be reached, `root_up` or `dagster_up` is 0, and the metrics that depend
    on it are absent."""
    text, media_type = await services.metrics.generate(request.headers.get("accept", ""))
    return Response(text, media_type=media_type)
