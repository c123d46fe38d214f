"""An HTTP proxy in front of Dagster's webserver, which counts what is asked and loses answers."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

_OPERATION = re.compile(r"(?:query|mutation) (\w+)")


@dataclass(frozen=True)
class Asked:
    """An operation that came through, by its name, with its body; `at` in seconds since 1970."""

    operation: str
    body: str
    at: float


class GraphQLProxy(ThreadingHTTPServer):
    """`loses_answer_to` is the operation whose next answer does not come back."""

    daemon_threads = True

    def __init__(self, url: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = httpx.Client(base_url=url, timeout=30)
        self.asked: list[Asked] = []
        self.loses_answer_to: str | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def times(self, operation: str, text: str = "") -> list[float]:
        """When such an operation came through, with that text in its body."""
        return [a.at for a in self.asked if a.operation == operation and text in a.body]


class _Handler(BaseHTTPRequestHandler):
    server: GraphQLProxy
    protocol_version = "HTTP/1.1"
    # Else each answer would wait for the one before to be acknowledged.
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        found = _OPERATION.search(json.loads(body)["query"])
        operation = found.group(1) if found else "?"
        self.server.asked.append(Asked(operation, body.decode(), time.time()))
        answer = self.server.upstream.post(
            self.path, content=body, headers={"Content-Type": "application/json"}
        )
        if self.server.loses_answer_to == operation:
            self.server.loses_answer_to = None
            self.close_connection = True
            return
        self.send_response(answer.status_code)
        self.send_header("Content-Type", answer.headers["Content-Type"])
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: what came through is kept."""


@contextmanager
def proxy_before(url: str) -> Iterator[GraphQLProxy]:
    with GraphQLProxy(url) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
            proxy.upstream.close()
