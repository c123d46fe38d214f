"""The FastAPI application: routes, access control and error handlers."""

import contextlib
from collections.abc import AsyncIterator
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
        metrics, runs = Metrics(settings), Runs(settings, root)
        app.state.services = Services(settings, root, runs, metrics)
        try:
            yield
        finally:
            await runs.aclose()
            await metrics.aclose()

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
    errors = _Errors(settings)
    errors.handle(app)
    if not open_to_all or settings.api_token is not None:
        app.add_middleware(AccessControl, token=settings.api_token, refuse=errors.answer)

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


class _Errors:
    """The answers to errors."""

    def __init__(self, settings: Settings) -> None:
        self._timestamps = settings.timestamps

    def answer(self, error: BackupError, response: str | None = None) -> JSONResponse:
        """`response` is for people; default: the text of this kind of error."""
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
            "timestamp": self._timestamps.now().replace(microsecond=0),
        }
        if error.can_retry or isinstance(error, RunUnresolved):
            data["can_retry"] = error.can_retry
        if isinstance(error, DagsterUnavailable) and error.run_id is not None:
            data["run_id"] = error.run_id
        return respond(error.http_status, ErrorData(**data), headers)

    def handle(self, app: FastAPI) -> None:
        @app.exception_handler(BackupError)
        async def handle_backup_error(request: Request, error: BackupError) -> JSONResponse:
            operation = getattr(request.state, "operation", None)
            if operation is None:
                return self.answer(error)
            return self.answer(error, operation.refusal_text(error, request.state.task_id))

        @app.exception_handler(RequestValidationError)
        async def handle_invalid_request(_: Request, error: RequestValidationError) -> JSONResponse:
            problems = (f"{problem['loc'][-1]}: {problem['msg']}." for problem in error.errors())
            return self.answer(InvalidParams(" ".join(problems)))

        @app.exception_handler(HTTPException)
        async def handle_http_error(request: Request, error: HTTPException) -> JSONResponse:
            if error.status_code == ResourceNotFound.http_status:
                message = "Address not found. A run id is a UUID. See /openapi.json."
                return self.answer(ResourceNotFound(message))
            if error.status_code == MethodNotAllowed.http_status:
                message = f"This address does not support {request.method}."
                answer = self.answer(MethodNotAllowed(message))
                answer.headers["Allow"] = ", ".join(_methods_of(request))
                return answer
            return self.answer(InvalidParams(f"Invalid request: {error.detail}."))

        @app.exception_handler(ClientDisconnect)
        async def handle_client_disconnect(_: Request, _error: ClientDisconnect) -> Response:
            return Response(status_code=499)  # Nobody sees it.

        @app.exception_handler(Exception)
        async def handle_unexpected_error(_: Request, _error: Exception) -> JSONResponse:
            # Uvicorn logs it with its stack trace.
            return self.answer(BackupError("Internal error. See the log of this service."))


def _methods_of(request: Request) -> list[str]:
    """The methods of the address. The framework only knows those of one route."""
    routes = [
        route
        for route in (*router.routes, *request.app.routes)
        if isinstance(route, Route) and route.path_regex.match(request.scope["path"])
    ]
    # Static files have no route.
    return sorted({m for route in routes for m in route.methods or ()}) or ["GET", "HEAD"]
