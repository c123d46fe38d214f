"""The FastAPI application: routes, access control and error handlers."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.routing import Route

from vector_backup_pipeline import __version__
from vector_backup_pipeline.api.access import ThisMachineOnly, TokenRequired
from vector_backup_pipeline.api.dagster_client import DagsterClient
from vector_backup_pipeline.api.envelope import failure
from vector_backup_pipeline.api.errors import (
    RESPONSES,
    BodyTooLarge,
    CallerGone,
    DagsterUnavailable,
    MethodNotAllowed,
    RangeNotSatisfiable,
    RunUnresolved,
)
from vector_backup_pipeline.api.health import HealthReader
from vector_backup_pipeline.api.openapi import TAGS, complete_document
from vector_backup_pipeline.api.operations import (
    BACKUP,
    RESTORE,
    Operation,
    refusal_text,
)
from vector_backup_pipeline.api.root_name import with_root_name
from vector_backup_pipeline.api.routes import files, health, runs
from vector_backup_pipeline.api.runs import Runs
from vector_backup_pipeline.api.services import Services
from vector_backup_pipeline.engine.errors import (
    BackupError,
    InvalidParams,
    ResourceNotFound,
)
from vector_backup_pipeline.engine.storage.opening import open_root
from vector_backup_pipeline.settings import Settings

# The list comes first: the route of a restore's status would take "list" for a run id.
_ROUTERS = (files.router, runs.router, health.router)
_ROUTES = [route for router in _ROUTERS for route in router.routes if isinstance(route, APIRoute)]
# By route name.
_OPERATIONS: Mapping[str, Operation[Any]] = {"back_up": BACKUP, "restore": RESTORE}
_ABOUT = """\
Backs up and restores PostgreSQL pgvector tables through Dagster.

Every answer has `code` (the HTTP status), `success`, `message` and `data`. The `data` of an error
has `response` for people, `error_type` for programs, and the exact reason in `detail`.
"""


def create_app(settings: Settings, *, open_to_all: bool = False) -> FastAPI:
    """The application for these settings. Without a token it answers only this machine, unless
    `open_to_all`.

    Raises:
        InvalidParams, StorageError: the root can't be opened.
    """
    root = open_root(
        settings.root,
        settings.directory,
        part_size=settings.part_bytes,
        manifest_key=settings.manifest_key,
    )

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        client = DagsterClient(settings.dagster_url, settings.dagster_location)
        services = Services(settings, root, client, Runs(client, root), HealthReader(client))
        app.state.services = services
        try:
            yield
        finally:
            await services.runs.watch.aclose()
            await client.aclose()

    app = FastAPIOffline(
        title="vector_backup_pipeline",
        version=__version__,
        description=_ABOUT,
        lifespan=lifespan,
        # A redirect would not have the form of the other answers.
        redirect_slashes=False,
        openapi_tags=TAGS,
        generate_unique_id_function=lambda route: route.name,
    )
    for router in _ROUTERS:
        app.include_router(router)
    _redirect_to_docs(app)
    _handle_errors(app, root.location)
    _complete_openapi(app, settings)
    if settings.api_token is not None:
        app.add_middleware(TokenRequired, token=settings.api_token)
    elif not open_to_all:
        app.add_middleware(ThisMachineOnly)
    return app


def _redirect_to_docs(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    async def index(request: Request) -> RedirectResponse:
        return RedirectResponse(f"{request.scope.get('root_path', '')}/docs")


def _handle_errors(app: FastAPI, root: str) -> None:
    def answer(request: Request, error: BackupError) -> JSONResponse:
        headers = {}
        if isinstance(error, RangeNotSatisfiable):
            headers["Content-Range"] = f"bytes */{error.size}"
        more: dict[str, Any] = {}
        if isinstance(error, DagsterUnavailable) and error.run_id is not None:
            more["run_id"] = error.run_id
        if isinstance(error, RunUnresolved):
            more["can_retry"] = False
        return failure(
            error.http_status,
            error.error_type,
            _response(request, error),
            with_root_name(error.message, root),
            can_retry=error.can_retry,
            more=more,
            headers=headers,
        )

    @app.exception_handler(BackupError)
    async def handle_backup_error(request: Request, error: BackupError) -> JSONResponse:
        return answer(request, error)

    @app.exception_handler(RequestValidationError)
    async def handle_invalid_request(
        request: Request, error: RequestValidationError
    ) -> JSONResponse:
        message = " ".join(f"{each['loc'][-1]}: {each['msg']}." for each in error.errors())
        return answer(request, InvalidParams(message))

    @app.exception_handler(HTTPException)
    async def handle_http_error(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == MethodNotAllowed.http_status:
            error_answer = answer(
                request, MethodNotAllowed(f"This address does not support {request.method}.")
            )
            error_answer.headers["Allow"] = ", ".join(_methods_of(request))
            return error_answer
        if error.status_code == ResourceNotFound.http_status:
            return answer(
                request,
                ResourceNotFound("Address not found. See /openapi.json for all addresses."),
            )
        return answer(request, InvalidParams(f"Invalid request: {error.detail}."))

    @app.exception_handler(CallerGone)
    async def handle_client_disconnect(_request: Request, _error: CallerGone) -> Response:
        return Response(status_code=499)

    @app.exception_handler(Exception)
    async def handle_unexpected_error(request: Request, _error: Exception) -> JSONResponse:
        # Uvicorn logs it with its stack trace.
        return answer(request, BackupError("Internal error. See the log of this service."))


def _methods_of(request: Request) -> list[str]:
    """The methods of the address. The framework only knows those of one route."""
    address = request.scope["path"]
    path = next((route.path for route in _ROUTES if route.path_regex.match(address)), None)
    if path is None:
        pages = [route for route in request.app.routes if isinstance(route, Route)]
        page = next((route for route in pages if route.path_regex.match(address)), None)
        return sorted(page.methods or ()) if page else ["GET", "HEAD"]  # A static file.
    of_path = [route for route in _ROUTES if route.path == path and route.include_in_schema]
    return sorted({method for route in of_path for method in route.methods or ()})


def _response(request: Request, error: BackupError) -> str:
    operation = _OPERATIONS.get(getattr(request.scope.get("route"), "name", ""))
    task_id = getattr(request.state, "task_id", None)
    if operation is not None and not isinstance(error, BodyTooLarge | MethodNotAllowed):
        return refusal_text(operation, error, task_id)
    return next(text for kind, text in RESPONSES.items() if isinstance(error, kind))


def _complete_openapi(app: FastAPI, settings: Settings) -> None:
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        return app.openapi_schema or complete_document(generate(), _ROUTES, settings)

    # The documented way to extend OpenAPI: FastAPI docs, "Extending OpenAPI".
    app.openapi = openapi  # type: ignore[method-assign]
