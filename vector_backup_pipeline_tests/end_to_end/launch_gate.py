"""A real Dagster with a gate before it that lets no launch through."""

from __future__ import annotations

import itertools
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

JSON = {"Content-Type": "application/json"}


class LaunchGate(ThreadingHTTPServer):
    """Passes every query on to the webserver; a launch is answered with one of the job's `runs`,
    which have ended, in turns. So whoever launches through it sees real answers and makes no run.
    """

    daemon_threads = True

    def __init__(self, webserver: str, runs: Mapping[str, Sequence[str]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self._graphql = f"{webserver}/graphql"
        self._turns = {job: itertools.cycle(ids) for job, ids in runs.items()}
        self.launched: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, asked: bytes) -> bytes:
        told = json.loads(asked)
        if "launchRun" not in told["query"]:
            request = urllib.request.Request(self._graphql, asked, JSON)  # noqa: S310
            with urllib.request.urlopen(request, timeout=60) as reply:  # noqa: S310
                answer: bytes = reply.read()
                return answer
        params = told["variables"]["params"]
        self.launched.append(params["runConfigData"])
        run = {"runId": next(self._turns[params["selector"]["jobName"]])}
        return json.dumps(
            {"data": {"launchRun": {"__typename": "LaunchRunSuccess", "run": run}}}
        ).encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: LaunchGate

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers["Content-Length"]))
        status, answer = 200, b""
        try:
            answer = self.server.answer(asked)
        except urllib.error.HTTPError as error:
            status = error.code
        self.send_response(status)
        for name, value in JSON.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def gate_before(webserver: str, runs: Mapping[str, Sequence[str]]) -> Iterator[LaunchGate]:
    with LaunchGate(webserver, runs) as gate:
        threading.Thread(target=gate.serve_forever, daemon=True).start()
        try:
            yield gate
        finally:
            gate.shutdown()
