"""List backups and download their files."""

from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response
from pydantic import BeforeValidator

from vector_backup_pipeline.api import envelope
from vector_backup_pipeline.api.errors import MethodNotAllowed
from vector_backup_pipeline.api.file_response import file_response
from vector_backup_pipeline.api.models import ListData
from vector_backup_pipeline.api.openapi import (
    answer,
    errors,
    errors_without_body,
    file_answers,
    request_headers,
)
from vector_backup_pipeline.api.routes import BASE_PATH
from vector_backup_pipeline.api.services import ServicesOf
from vector_backup_pipeline.engine.catalog.downloads import find_download
from vector_backup_pipeline.engine.catalog.listing import list_backups
from vector_backup_pipeline.parameters.types import TASK_ID_PATTERN

router = APIRouter(prefix=BASE_PATH, tags=["files"])

_FILE_PATH = "/backup/files/{timestamp}/{file}"
_TaskId = Annotated[
    str | None,
    Query(
        description="The task; default: the root.",
        examples=["corpus_7"],
        json_schema_extra={"pattern": TASK_ID_PATTERN},
    ),
]
_Timestamp = Annotated[
    str, Path(description="The backup set's timestamp.", examples=["20250721_234914"])
]
_File = Annotated[
    str,
    Path(
        description="The file name from the list, percent-encoded once.",
        examples=["langchain_pg_embedding_20250721_234914.csv"],
    ),
]
_RANGE = {"Range": ("One range of bytes. Several ranges get the whole file.", "bytes=0-99")}
_CONDITIONS = {
    "If-Range": ("An ETag: send the range only of this version.", '"1f-5c2a"'),
    "If-None-Match": ("An ETag: 304 if the file has not changed.", '"1f-5c2a"'),
}


@router.get(
    "/restore/list",
    summary="List backups",
    responses={
        **answer(200, ListData, "The backup sets."),
        **errors(400, 401, 404, 500),
    },
)
async def list_sets(
    services: ServicesOf,
    task_id: _TaskId = None,
    global_only: Annotated[
        bool,
        # As in the older service, `?global_only=` without a value is false.
        BeforeValidator(lambda value: value or False),
        Query(description="List only the root's backups, not those of tasks."),
    ] = False,
) -> JSONResponse:
    """Backup sets by location, newest first. By default those of the root and of all tasks."""
    found = await run_in_threadpool(
        list_backups,
        services.root,
        services.settings.timestamps,
        task_id=task_id or None,
        global_only=global_only,
    )
    return envelope.success("查询成功", found.as_json())


@router.delete("/restore/list", include_in_schema=False)
async def not_a_run() -> None:
    """Without this route, "list" would be taken for the id of a restore to cancel."""
    raise HTTPException(MethodNotAllowed.http_status)


@router.get(
    _FILE_PATH,
    summary="Download a file of a backup set",
    response_class=Response,
    responses={**file_answers(with_body=True), **errors(400, 401, 404, 416, 500)},
    openapi_extra=request_headers(_RANGE | _CONDITIONS),
)
async def download(
    request: Request,
    services: ServicesOf,
    timestamp: _Timestamp,
    file: _File,
    task_id: _TaskId = None,
) -> Response:
    """A data file, the manifest, the verification result or the log. To resume a download, send
    `Range`, with the `ETag` in `If-Range`."""
    return await _send(request, services, timestamp, file, task_id)


@router.head(
    _FILE_PATH,
    summary="Get the headers of a file of a backup set",
    response_class=Response,
    responses={
        **file_answers(with_body=False),
        **errors_without_body(400, 401, 404, 500),
    },
    openapi_extra=request_headers(_CONDITIONS),
)
async def look_at_download(
    request: Request,
    services: ServicesOf,
    timestamp: _Timestamp,
    file: _File,
    task_id: _TaskId = None,
) -> Response:
    """The headers of a download, without the content."""
    return await _send(request, services, timestamp, file, task_id)


async def _send(
    request: Request, services: ServicesOf, timestamp: str, file: str, task_id: str | None
) -> Response:
    found = await run_in_threadpool(
        find_download,
        services.root,
        services.settings.timestamps,
        timestamp,
        file,
        task_id or None,
    )
    return file_response(found, request.headers, send_body=request.method != "HEAD")
