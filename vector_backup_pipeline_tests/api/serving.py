"""A small application around downloads, and a real server for it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from vector_backup_pipeline.api.errors import RangeNotSatisfiable
from vector_backup_pipeline.api.file_response import file_response
from vector_backup_pipeline.engine.catalog.downloads import find_download
from vector_backup_pipeline.engine.errors import BackupError
from vector_backup_pipeline.engine.storage.contract import BackupRoot
from vector_backup_pipeline_tests.fix_backup import TIMESTAMPS

LOOPBACK = "127.0.0.1"


def download_app(root: BackupRoot) -> Starlette:
    """`GET /{timestamp}/{file}?task_id=`; errors as JSON."""

    def send(request: Request) -> Response:
        found = find_download(
            root,
            TIMESTAMPS,
            request.path_params["timestamp"],
            request.path_params["file"],
            request.query_params.get("task_id"),
        )
        return file_response(found, request.headers, send_body=request.method == "GET")

    def tell(_: Request, error: Exception) -> Response:
        assert isinstance(error, BackupError)
        told = {"error_type": error.error_type, "message": error.message, "retry": error.can_retry}
        headers = {}
        if isinstance(error, RangeNotSatisfiable):
            headers["Content-Range"] = f"bytes */{error.size}"
        return JSONResponse(told, error.http_status, headers)

    return Starlette(
        routes=[Route("/{timestamp}/{file}", send)], exception_handlers={BackupError: tell}
    )


@dataclass(frozen=True)
class Served:
    """Where an application is served."""

    port: int

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def ask(self, path: str, method: str = "GET") -> socket.socket:
        """A connection over which `path` was asked for, just as it is spelled."""
        connection = socket.create_connection((LOOPBACK, self.port), timeout=20)
        lines = [f"{method} {path} HTTP/1.1", "Host: here", "Connection: close", "", ""]
        connection.sendall("\r\n".join(lines).encode())
        return connection


@contextlib.contextmanager
def served(app: ASGIApp) -> Iterator[Served]:
    """The application behind uvicorn, in a thread of this process."""
    # It takes connections from now on; the server answers them once it is up.
    with socket.create_server((LOOPBACK, 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None))
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        try:
            yield Served(listening.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(60)
            assert not thread.is_alive()
