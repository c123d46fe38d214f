"""An HTTP server for an application under test."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Served:
    """The address of a served application."""

    port: int

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def send(self, *lines: bytes) -> socket.socket:
        """Open a connection, and send these lines unchanged and an empty line."""
        connection = socket.create_connection((LOOPBACK, self.port), timeout=20)
        connection.sendall(b"\r\n".join([*lines, b"Connection: close", b"", b""]))
        return connection

    def answer_to(self, *lines: bytes) -> bytes:
        """The complete response to these lines."""
        with self.send(*lines) as connection, connection.makefile("rb") as answer:
            return answer.read()


@contextlib.contextmanager
def served(app: ASGIApp) -> Iterator[Served]:
    """The application behind uvicorn, in a thread of this process."""
    # The socket accepts connections from now on; the server answers them once it is up.
    with socket.create_server((LOOPBACK, 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, http="h11"))
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        try:
            yield Served(listening.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(60)
            assert not thread.is_alive()
