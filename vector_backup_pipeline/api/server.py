"""Run the API as a service: address, access and shutdown."""

import logging
from types import FrameType

import uvicorn
from fastapi import FastAPI

from vector_backup_pipeline.api.access import is_loopback
from vector_backup_pipeline.api.app import create_app
from vector_backup_pipeline.engine.errors import InvalidParams
from vector_backup_pipeline.settings import API_TOKEN_VARIABLE, Settings

# For downloads, and for callers that wait for a run while Dagster does not answer.
_END_SECONDS = 10

_log = logging.getLogger("vector_backup_pipeline")


def serve(settings: Settings, *, host: str, port: int, no_auth: bool) -> bool:
    """Serve until the process gets a signal to stop; False if it could not start. Raises
    `InvalidParams` if access would be unrestricted without `no_auth`."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    _check_access(settings, host, no_auth=no_auth)
    server = Server(
        uvicorn.Config(
            create_app(settings, open_to_all=no_auth),
            host=host,
            port=port,
            # httptools does not limit the size of headers and trailers.
            http="h11",
            server_header=False,
            timeout_graceful_shutdown=_END_SECONDS,
        )
    )
    try:
        server.run()
    except SystemExit:
        # Uvicorn has logged why it cannot listen. Its exit code is not one of ours.
        return False
    return server.started


def _check_access(settings: Settings, host: str, *, no_auth: bool) -> None:
    if settings.api_token is not None and no_auth:
        raise InvalidParams(f"--no-auth was given, but {API_TOKEN_VARIABLE} is set. Omit one.")
    if settings.api_token is not None:
        _log.info("Callers need the token of %s.", API_TOKEN_VARIABLE)
    elif no_auth:
        _log.warning(
            "--no-auth: everyone who can reach %s may back up, truncate, restore and download.",
            host,
        )
    elif is_loopback(host):
        _log.info("%s is not set: only this machine is answered.", API_TOKEN_VARIABLE)
    else:
        raise InvalidParams(
            f"The host {host} can be reached from other machines, and callers would not be "
            f"authenticated. Set {API_TOKEN_VARIABLE}, or give --no-auth if something else "
            "controls access."
        )


class Server(uvicorn.Server):
    """Answers callers that wait for a run when the service stops."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        app = self.config.app
        if isinstance(app, FastAPI) and hasattr(app.state, "services"):
            app.state.services.runs.stop()
