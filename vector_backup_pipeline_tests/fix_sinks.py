"""Servers that count what they receive: an HTTP server, and an SMTP server."""

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from vector_backup_pipeline.settings import PREFIX

TOKEN = "geheim-token-4711"


@dataclass
class Sink:
    """The messages that were posted, and the number of other calls. It refuses all while
    `is_down`."""

    port: int = 0
    messages: list[dict[str, Any]] = field(default_factory=list)
    calls: int = 0
    is_down: bool = False

    def titles(self) -> list[str]:
        """The titles of the messages since the last call."""
        titles = [message["title"] for message in self.messages]
        self.messages.clear()
        return titles


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sink]:
    """An HTTP server that receives the alerts and the heartbeat."""
    sink = Sink()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if not sink.is_down:
                sink.messages.append(json.loads(body))
            self._answer()

        def do_GET(self) -> None:
            sink.calls += 1
            self._answer()

        def _answer(self) -> None:
            self.send_response(503 if sink.is_down else 200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with _served(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as sink.port:
        monkeypatch.setenv(PREFIX + "ALERT_URLS", f"json://127.0.0.1:{sink.port}/{TOKEN}")
        monkeypatch.setenv(PREFIX + "HEARTBEAT_URL", f"http://127.0.0.1:{sink.port}/{TOKEN}")
        yield sink


@pytest.fixture
def mailbox() -> Iterator[tuple[int, list[str]]]:
    """The port of an SMTP server, and the mails that it receives."""
    mails: list[str] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self._say("220 sink")
            while line := self.rfile.readline().decode().strip():
                if line.upper() == "DATA":
                    self._say("354 go on")
                    lines = iter(lambda: self.rfile.readline().decode().rstrip("\r\n"), ".")
                    mails.append("\n".join(lines))
                self._say("221 bye" if line.upper() == "QUIT" else "250 ok")

        def _say(self, text: str) -> None:
            self.wfile.write(f"{text}\r\n".encode())

    with _served(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)) as port:
        yield port, mails


@contextmanager
def _served(server: socketserver.TCPServer) -> Iterator[int]:
    """Serve in a thread; the port."""
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
