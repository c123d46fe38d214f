"""An HTTP proxy in front of Dagster's webserver: it records queries, loses answers, and answers
launches itself."""

import itertools
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

_OPERATION = re.compile(r"(?:query|mutation) VectorBackup(\w+)")


@dataclass(frozen=True)
class Request:
    """A query or mutation by its name, with its body; `at` in seconds since 1970."""

    name: str
    body: str
    at: float


class GraphQLProxy(ThreadingHTTPServer):
    """Forwards queries.

    While `is_down`, none is forwarded or answered. With `ended_runs`, a launch of a job starts no
    run and returns one of these, in turn.
    """

    daemon_threads = True

    def __init__(self, url: str, ended_runs: Mapping[str, Sequence[str]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = httpx.Client(base_url=url, timeout=60)
        self.requests: list[Request] = []
        self.is_down = False
        self._turns = {job: itertools.cycle(run_ids) for job, run_ids in ended_runs.items()}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def times(self, name: str, text: str = "") -> list[float]:
        """The times of the queries of that name with that text in the body."""
        requests = [request for request in self.requests if request.name == name]
        return [request.at for request in requests if text in request.body]

    def answer(self, path: str, body: bytes) -> tuple[int, bytes] | None:
        request = json.loads(body)
        match = _OPERATION.search(request["query"])
        name = match.group(1) if match else "?"
        self.requests.append(Request(name, body.decode(), time.time()))
        if self.is_down:
            return None
        if name == "Launch" and self._turns:
            job = request["variables"]["params"]["selector"]["jobName"]
            run: Any = {"__typename": "LaunchRunSuccess", "run": {"runId": next(self._turns[job])}}
            return 200, json.dumps({"data": {"launchRun": run}}).encode()
        headers = {"Content-Type": "application/json"}
        answer = self.upstream.post(path, content=body, headers=headers)
        return answer.status_code, answer.content


class _Handler(BaseHTTPRequestHandler):
    server: GraphQLProxy
    protocol_version = "HTTP/1.1"
    # Otherwise each response would wait until the previous one is acknowledged.
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = self.server.answer(self.path, body)
        if answer is None:
            self.close_connection = True
            return
        status, content = answer
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the queries are recorded."""


@contextmanager
def proxy_before(
    url: str, ended_runs: Mapping[str, Sequence[str]] | None = None
) -> Iterator[GraphQLProxy]:
    with GraphQLProxy(url, ended_runs or {}) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
            proxy.upstream.close()
