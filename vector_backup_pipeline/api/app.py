"""The FastAPI application: routes, access control and error handlers."""

import contextlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Route

from vector_backup_pipeline import __version__
from vector_backup_pipeline.api.access import AccessControl
from vector_backup_pipeline.api.dagster_client import DagsterClient
from vector_backup_pipeline.api.errors import (
    RESPONSES,
    DagsterUnavailable,
    MethodNotAllowed,
    RangeNotSatisfiable,
    RunUnresolved,
    Unauthorized,
)
from vector_backup_pipeline.api.metrics import Metrics
from vector_backup_pipeline.api.models import ErrorData, respond
from vector_backup_pipeline.api.openapi import complete_document
from vector_backup_pipeline.api.routes import Services, router
from vector_backup_pipeline.api.runs import Runs
from vector_backup_pipeline.engine.errors import BackupError, InvalidParams, ResourceNotFound
from vector_backup_pipeline.settings import Settings

_ABOUT = """\
Backs up and restores PostgreSQL pgvector tables through Dagster.

Every answer has `code` (the HTTP status), `success`, `message` and `data`. The `data` of an error
has `response` for people, `error_type` for programs, and the exact reason in `detail`.
"""


def create_app(settings: Settings, *, open_to_all: bool = False) -> FastAPI:
    """The application for these settings. Without a token it accepts only local calls, unless
    `open_to_all`. Raises `InvalidParams` or `StorageError` if the root cannot be opened."""
    root = settings.open_root()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        client = DagsterClient(settings.dagster_url, settings.dagster_location)
        async with contextlib.aclosing(client):
            runs, metrics = Runs(settings, root, client), Metrics(settings, client)
            app.state.services = Services(settings, root, runs, metrics)
            yield

    app = FastAPIOffline(
        title="vector_backup_pipeline",
        version=__version__,
        description=_ABOUT,
        lifespan=lifespan,
        # A redirect would not have the form of the other answers.
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.include_router(router)
    _handle_errors(app, settings)
    if not open_to_all or settings.api_token is not None:
        refuse = partial(_answer, settings)
        app.add_middleware(AccessControl, token=settings.api_token, refuse=refuse)

    @app.get("/", include_in_schema=False)
    async def index(request: Request) -> RedirectResponse:
        return RedirectResponse(f"{request.scope.get('root_path', '')}/docs")

    generate = app.openapi

    def openapi() -> dict[str, Any]:
        routes = [route for route in router.routes if isinstance(route, APIRoute)]
        return app.openapi_schema or complete_document(generate(), routes, settings)

    # FastAPI's documented way to extend the document ("Extending OpenAPI").
    app.openapi = openapi  # type: ignore[method-assign]
    return app


def _answer(settings: Settings, error: BackupError, response: str | None = None) -> JSONResponse:
    """The answer to a call that failed. `response` is the text for people, by default that of this
    kind of error."""
    headers = {}
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, RangeNotSatisfiable):
        headers["Content-Range"] = f"bytes */{error.size}"
    data: dict[str, Any] = {
        "response": response
        or next(text for kind, text in RESPONSES.items() if isinstance(error, kind)),
        "error_type": error.error_type,
        "detail": error.message,
        "timestamp": settings.timestamps.now().replace(microsecond=0),
    }
    if error.can_retry or isinstance(error, RunUnresolved):
        data["can_retry"] = error.can_retry
    if isinstance(error, DagsterUnavailable) and error.run_id is not None:
        data["run_id"] = error.run_id
    return respond(error.http_status, ErrorData(**data), headers)


def _handle_errors(app: FastAPI, settings: Settings) -> None:
    answer = partial(_answer, settings)

    @app.exception_handler(BackupError)
    async def handle_backup_error(request: Request, error: BackupError) -> JSONResponse:
        operation = getattr(request.state, "operation", None)
        if operation is None:
            return answer(error)
        return answer(error, operation.refusal_text(error, request.state.task_id))

    @app.exception_handler(RequestValidationError)
    async def handle_invalid_request(_: Request, error: RequestValidationError) -> JSONResponse:
        problems = (f"{problem['loc'][-1]}: {problem['msg']}." for problem in error.errors())
        return answer(InvalidParams(" ".join(problems)))

    @app.exception_handler(HTTPException)
    async def handle_http_error(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == ResourceNotFound.http_status:
            message = "Address not found. A run id is a UUID. See /openapi.json."
            return answer(ResourceNotFound(message))
        if error.status_code == MethodNotAllowed.http_status:
            refusal = answer(MethodNotAllowed(f"This address does not support {request.method}."))
            refusal.headers["Allow"] = ", ".join(_methods_of(request))
            return refusal
        return answer(InvalidParams(f"Invalid request: {error.detail}."))

    @app.exception_handler(ClientDisconnect)
    async def handle_client_disconnect(_: Request, _error: ClientDisconnect) -> Response:
        return Response(status_code=499)  # Nobody receives it.

    @app.exception_handler(Exception)
    async def handle_unexpected_error(_: Request, _error: Exception) -> JSONResponse:
        # Uvicorn logs it with its stack trace.
        return answer(BackupError("Internal error. See the log of this service."))


def _methods_of(request: Request) -> list[str]:
    """The methods of the address. The framework only knows those of one route."""
    routes = [
        route
        for route in (*router.routes, *request.app.routes)
        if isinstance(route, Route) and route.path_regex.match(request.scope["path"])
    ]
    # Static files have no route.
    return sorted({m for route in routes for m in route.methods or ()}) or ["GET", "HEAD"]
