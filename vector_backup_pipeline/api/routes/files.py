"""Which backups are there, and their files."""

from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response
from pydantic import BeforeValidator

from vector_backup_pipeline.api import envelope
from vector_backup_pipeline.api.documents import (
    DOWNLOAD_HEADERS,
    FILE,
    FILE_HEAD,
    answers,
)
from vector_backup_pipeline.api.errors import MethodNotAllowed
from vector_backup_pipeline.api.file_response import file_response
from vector_backup_pipeline.api.routes import BASE_PATH
from vector_backup_pipeline.api.server_paths import without_paths
from vector_backup_pipeline.api.services import ServicesOf
from vector_backup_pipeline.engine.catalog import find_download, list_backups
from vector_backup_pipeline.parameters.types import TASK_ID_PATTERN

router = APIRouter(prefix=BASE_PATH, tags=["files"])

_FILE_PATH = "/backup/files/{timestamp}/{file}"
_TaskId = Annotated[
    str | None,
    Query(
        description="Of this task; of the root itself if not given.",
        examples=["corpus_7"],
        json_schema_extra={"pattern": TASK_ID_PATTERN},
    ),
]
_Timestamp = Annotated[str, Path(description="The set's own.", examples=["20250721_234914"])]
_File = Annotated[
    str,
    Path(
        description="As the list spells it, percent-encoded once.",
        examples=["langchain_pg_embedding_20250721_234914.csv"],
    ),
]


@router.get(
    "/restore/list",
    summary="Which backups are there",
    responses=answers("files", "listed", 400, 401, 404, 500),
)
async def list_sets(
    services: ServicesOf,
    task_id: _TaskId = None,
    global_only: Annotated[
        bool,
        # As of the older service: a switch without a value is off.
        BeforeValidator(lambda given: given or False),
        Query(description="Those of the root itself, not those of tasks."),
    ] = False,
) -> JSONResponse:
    """Backup sets by location, newest first. Without parameters: of the root and of every task."""
    found = await run_in_threadpool(
        list_backups,
        services.root,
        services.settings.timestamps,
        task_id=task_id or None,
        global_only=global_only,
    )
    told = without_paths(found.as_json(), services.root.location)
    return envelope.success("查询成功", told)


@router.delete("/restore/list", include_in_schema=False)
async def not_a_run() -> None:
    """Else the list would be taken for a restore that is to be cancelled."""
    raise HTTPException(MethodNotAllowed.http_status)


@router.get(
    _FILE_PATH,
    summary="Download a file of a backup set",
    response_class=Response,
    responses=answers("files", FILE, 400, 401, 404, 416, 500),
    openapi_extra={"parameters": DOWNLOAD_HEADERS},
)
async def download(
    request: Request,
    services: ServicesOf,
    timestamp: _Timestamp,
    file: _File,
    task_id: _TaskId = None,
) -> Response:
    """A data file, the manifest, the verdict or the log. `Range` takes one range, `If-None-Match`
    and `If-Range` the `ETag`: a download goes on where it broke."""
    return await _send(request, services, timestamp, file, task_id)


@router.head(
    _FILE_PATH,
    summary="Look at a file of a backup set",
    response_class=Response,
    responses=answers("files", FILE_HEAD),
    openapi_extra={"parameters": [each for each in DOWNLOAD_HEADERS if each["name"] != "Range"]},
)
async def look_at_download(
    request: Request,
    services: ServicesOf,
    timestamp: _Timestamp,
    file: _File,
    task_id: _TaskId = None,
) -> Response:
    """What a download would tell of the file, without its bytes."""
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
