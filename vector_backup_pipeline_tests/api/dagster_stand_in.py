"""A webserver that answers the API's queries like Dagster's, with runs that a test has added."""

import asyncio
import contextlib
import json
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from vector_backup_pipeline.api.dagster_client import DagsterClient
from vector_backup_pipeline_tests.api.serving import Served, served

JOB = "vector_backup_job"
DEAD_DAEMON = {"daemonType": "QUEUED_RUN_COORDINATOR", "required": True, "healthy": False}
_T = TypeVar("_T")
_OPERATION = re.compile(r"(?:query|mutation) VectorBackup(\w+)")


@dataclass
class StandInRun:
    job: str = JOB
    status: str = "STARTED"
    tags: dict[str, str] = field(default_factory=dict)
    config: Any = None
    ended_at: float | None = 3.5
    events: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class StandIn:
    """`queries` has each query's name and variables. `instead` may replace Dagster's answer by a
    response; it is called after the query has taken effect."""

    url: str = ""
    runs: dict[str, StandInRun] = field(default_factory=dict)
    locations: dict[str, list[str]] = field(default_factory=lambda: {"backups": [JOB]})
    daemons: list[dict[str, Any]] = field(default_factory=list)
    page: int = 100
    delay: float = 0.0
    instead: Callable[[str], Response | None] = lambda _: None
    queries: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    authorizations: set[str | None] = field(default_factory=set)
    most_at_once: int = 0
    _at_once: int = 0

    def add(self, status: str = "STARTED", job: str = JOB, *events: dict[str, Any]) -> str:
        run_id = str(uuid.uuid4())
        self.runs[run_id] = StandInRun(job, status, events=list(events))
        return run_id

    def count(self, name: str) -> int:
        return sum(operation == name for operation, _ in self.queries)

    def fail(self, *names: str) -> None:
        """Answer these queries, or all, with an error of a proxy."""
        self.instead = lambda operation: (
            Response(status_code=502) if operation in (names or operation) else None
        )

    def ask(self, use: Callable[[DagsterClient], Awaitable[_T]], url: str | None = None) -> _T:
        """The result of `use` with a client of this webserver, in an event loop of its own."""

        async def with_client() -> _T:
            client = DagsterClient(url or self.url)
            try:
                return await use(client)
            finally:
                await client.aclose()

        return asyncio.run(with_client())

    async def answer(self, request: Request) -> Response:
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            await asyncio.sleep(self.delay)
            body = await request.json()
            self.authorizations.add(request.headers.get("authorization"))
            operation = _OPERATION.search(body["query"])
            assert operation is not None
            name, variables = operation.group(1), body["variables"]
            self.queries.append((name, variables))
            data = getattr(self, f"_{name.lower()}")(**variables)
            return self.instead(name) or JSONResponse({"data": data})
        finally:
            self._at_once -= 1

    def _jobs(self) -> Any:
        nodes = [
            {
                "name": "__repository__",
                "location": {"name": location},
                "pipelines": [{"name": job} for job in jobs],
            }
            for location, jobs in self.locations.items()
        ]
        return {"repositoriesOrError": {"__typename": "RepositoryConnection", "nodes": nodes}}

    def _launch(self, params: Any) -> Any:
        selector = params["selector"]
        if selector["jobName"] not in self.locations.get(selector["repositoryLocationName"], ()):
            error = {"__typename": "PipelineNotFoundError", "message": "No such job.\n  File x"}
            return {"launchRun": error}
        run_id = self.add("QUEUED", selector["jobName"])
        self.runs[run_id].config = params["runConfigData"]
        tags = params["executionMetadata"]["tags"]
        self.runs[run_id].tags = {tag["key"]: tag["value"] for tag in tags}
        return {"launchRun": {"__typename": "LaunchRunSuccess", "run": {"runId": run_id}}}

    def _runs(self, filter: dict[str, Any]) -> Any:
        tags = {tag["key"]: tag["value"] for tag in filter.get("tags", ())}
        results = [
            {"runId": run_id, "status": run.status}
            for run_id, run in self.runs.items()
            if run_id in filter.get("runIds", self.runs) and tags.items() <= run.tags.items()
        ]
        return {"runsOrError": {"__typename": "Runs", "results": results}}

    def _recent(self, job: str, since: float, limit: int) -> Any:
        assert since < time.time()
        results = [
            {
                "jobName": run.job,
                "status": run.status,
                "endTime": run.ended_at,
                "runConfig": run.config or {},
                "tags": [{"key": key, "value": value} for key, value in run.tags.items()],
            }
            for run in self.runs.values()
            if run.job == job
        ]
        return {"runsOrError": {"__typename": "Runs", "results": results[:limit]}}

    def _run(self, run: str, after: str | None) -> Any:
        if run not in self.runs:
            return {"runOrError": {"__typename": "RunNotFoundError"}}
        stored, begin = self.runs[run], int(after or 0)
        end = min(begin + self.page, len(stored.events))
        return {
            "runOrError": {
                "__typename": "Run",
                "job": stored.job,
                "status": stored.status,
                "created_at": 1.5,
                "started_at": 2.5,
                "ended_at": 3.5 if stored.status in ("SUCCESS", "FAILURE", "CANCELED") else None,
                "page": {
                    "cursor": str(end),
                    "has_more": end < len(stored.events),
                    "events": stored.events[begin:end],
                },
            }
        }

    def _terminate(self, run: str) -> Any:
        if self.runs[run].status not in ("STARTED", "QUEUED"):
            return {"terminateRun": {"__typename": "TerminateRunFailure", "message": "It ended."}}
        self.runs[run].status = "CANCELED"
        return {"terminateRun": {"__typename": "TerminateRunSuccess"}}

    def _health(self) -> Any:
        health = {"allDaemonStatuses": self.daemons}
        return {"version": "1.13.27", "instance": {"daemonHealth": health}}


def event(kind: str, step: str | None = None, /, **metadata: Any) -> dict[str, Any]:
    """An event in the form of GraphQL."""
    event: dict[str, Any] = {"__typename": kind}
    if step is not None:
        event["stepKey"] = step
    entries = {"metadataEntries": [_entry(label, value) for label, value in metadata.items()]}
    if kind == "ExecutionStepFailureEvent":
        return event | {"failureMetadata": entries if metadata else None}
    return event | (entries if metadata else {})


def _entry(label: str, value: Any) -> dict[str, Any]:
    # The type, the key of the value, and the value. GraphQL's Int has 32 bits, so it is a text.
    kinds: dict[type, tuple[str, str, Any]] = {
        bool: ("Bool", "boolValue", value),
        int: ("Int", "intRepr", str(value)),
        float: ("Float", "floatValue", value),
        str: ("Text", "text", value),
        type(None): ("Null", "label", label),
    }
    kind, key, shown = kinds.get(type(value)) or ("Json", "jsonString", json.dumps(value))
    return {"label": label, "__typename": f"{kind}MetadataEntry", key: shown}


class DagsterServer:
    """An HTTP server for one stand-in at a time."""

    def __init__(self) -> None:
        self.stand_in = StandIn()

    @contextlib.contextmanager
    def running(self) -> Iterator[Served]:
        async def answer(request: Request) -> Response:
            return await self.stand_in.answer(request)

        with served(Starlette(routes=[Route("/graphql", answer, methods=["POST"])])) as running:
            yield running
