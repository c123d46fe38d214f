"""An HTTP server that counts what it receives."""

import json
import threading
from collections.abc import Iterator
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

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        address = f"127.0.0.1:{server.server_port}/{TOKEN}"
        monkeypatch.setenv(PREFIX + "ALERT_URLS", f"json://{address}")
        monkeypatch.setenv(PREFIX + "HEARTBEAT_URL", f"http://{address}")
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield sink
        server.shutdown()
        thread.join()
