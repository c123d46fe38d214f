"""A webserver that answers the API's queries as Dagster's does, from what a test puts into it."""

from __future__ import annotations

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
_T = TypeVar("_T")
_OPERATION = re.compile(r"(?:query|mutation) VectorBackup(\w+)")


@dataclass
class StandInRun:
    job: str = JOB
    status: str = "STARTED"
    tags: dict[str, str] = field(default_factory=dict)
    config: Any = None
    events: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class StandIn:
    """`asked` has each query's name and variables. `instead` may answer otherwise than Dagster:
    with a response, or None for Dagster's own; it is called after the query has taken effect."""

    runs: dict[str, StandInRun] = field(default_factory=dict)
    locations: dict[str, list[str]] = field(default_factory=lambda: {"backups": [JOB]})
    daemons: list[dict[str, Any]] = field(default_factory=list)
    page: int = 100
    delay: float = 0.0
    instead: Callable[[str], Response | None] = lambda _: None
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    authorizations: set[str | None] = field(default_factory=set)
    most_at_once: int = 0
    url: str = ""
    _at_once: int = 0

    def add(self, status: str = "STARTED", job: str = JOB, *events: dict[str, Any]) -> str:
        run_id = str(uuid.uuid4())
        self.runs[run_id] = StandInRun(job, status, events=list(events))
        return run_id

    def count(self, name: str) -> int:
        return sum(each == name for each, _ in self.asked)

    def ask(self, use: Callable[[DagsterClient], Awaitable[_T]], url: str | None = None) -> _T:
        """What `use` comes to with a client of this webserver, in an event loop of its own."""

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
            await self._hesitate()
            given = await request.json()
            self.authorizations.add(request.headers.get("authorization"))
            found = _OPERATION.search(given["query"])
            assert found is not None
            name, variables = found.group(1), given["variables"]
            self.asked.append((name, variables))
            data = getattr(self, f"_{name}")(**variables)
            return self.instead(name) or JSONResponse({"data": data})
        finally:
            self._at_once -= 1

    async def _hesitate(self) -> None:
        """As long as `delay` says, also when it is changed meanwhile."""
        began = time.monotonic()
        await asyncio.sleep(min(self.delay, 0.05))
        while (left := began + self.delay - time.monotonic()) > 0:
            await asyncio.sleep(min(left, 0.05))

    def _Jobs(self) -> Any:  # noqa: N802 - as the query is called
        nodes = [
            {
                "name": "__repository__",
                "location": {"name": location},
                "pipelines": [{"name": job} for job in jobs],
            }
            for location, jobs in self.locations.items()
        ]
        return {"repositoriesOrError": {"__typename": "RepositoryConnection", "nodes": nodes}}

    def _Launch(self, params: Any) -> Any:  # noqa: N802
        selector = params["selector"]
        if selector["jobName"] not in self.locations.get(selector["repositoryLocationName"], ()):
            error = {"__typename": "PipelineNotFoundError", "message": "No such job.\n  File x"}
            return {"launchRun": error}
        run_id = self.add("QUEUED", selector["jobName"])
        self.runs[run_id].config = params["runConfigData"]
        tags = params["executionMetadata"]["tags"]
        self.runs[run_id].tags = {tag["key"]: tag["value"] for tag in tags}
        return {"launchRun": {"__typename": "LaunchRunSuccess", "run": {"runId": run_id}}}

    def _RunsWithTag(self, tag: Any) -> Any:  # noqa: N802
        found = [
            {"runId": run_id, "status": run.status}
            for run_id, run in self.runs.items()
            if run.tags.get(tag["key"]) == tag["value"]
        ]
        return {"runsOrError": {"__typename": "Runs", "results": found}}

    def _Statuses(self, runs: list[str]) -> Any:  # noqa: N802
        told = [
            {"runId": run_id, "status": self.runs[run_id].status}
            for run_id in runs
            if run_id in self.runs
        ]
        return {"runsOrError": {"__typename": "Runs", "results": told}}

    def _Run(self, run: str, after: str | None) -> Any:  # noqa: N802
        if run not in self.runs:
            missing = {"__typename": "RunNotFoundError"}
            return {"runOrError": missing, "logsForRun": missing}
        known, begin = self.runs[run], int(after or 0)
        end = min(begin + self.page, len(known.events))
        return {
            "runOrError": {
                "__typename": "Run",
                "jobName": known.job,
                "status": known.status,
                "creationTime": 1.5,
                "startTime": 2.5,
                "endTime": 3.5 if known.status in ("SUCCESS", "FAILURE", "CANCELED") else None,
            },
            "logsForRun": {
                "__typename": "EventConnection",
                "cursor": str(end),
                "hasMore": end < len(known.events),
                "events": known.events[begin:end],
            },
        }

    def _Terminate(self, run: str) -> Any:  # noqa: N802
        if self.runs[run].status not in ("STARTED", "QUEUED"):
            told = {"__typename": "TerminateRunFailure", "message": "It has ended."}
            return {"terminateRun": told}
        self.runs[run].status = "CANCELED"
        return {"terminateRun": {"__typename": "TerminateRunSuccess"}}

    def _Health(self) -> Any:  # noqa: N802
        health = {"allDaemonStatuses": self.daemons}
        return {"version": "1.13.27", "instance": {"daemonHealth": health}}


def event(kind: str, step: str | None = None, /, **metadata: Any) -> dict[str, Any]:
    """An event as GraphQL tells it."""
    entries = [_entry(label, value) for label, value in metadata.items()]
    told: dict[str, Any] = {"__typename": kind}
    if step is not None:
        told["stepKey"] = step
    if kind == "ExecutionStepFailureEvent":
        return told | {"failureMetadata": {"metadataEntries": entries} if entries else None}
    return told | ({"metadataEntries": entries} if entries else {})


def _entry(label: str, value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"label": label, "__typename": "BoolMetadataEntry", "boolValue": value}
    if isinstance(value, int):
        # An Int of GraphQL has 32 bits, so Dagster tells it as text too.
        return {"label": label, "__typename": "IntMetadataEntry", "intRepr": str(value)}
    if isinstance(value, float):
        return {"label": label, "__typename": "FloatMetadataEntry", "floatValue": value}
    if isinstance(value, str):
        return {"label": label, "__typename": "TextMetadataEntry", "text": value}
    if value is None:
        return {"label": label, "__typename": "NullMetadataEntry"}
    return {"label": label, "__typename": "JsonMetadataEntry", "jsonString": json.dumps(value)}


class DagsterServer:
    """A real server for one stand-in after the other."""

    def __init__(self) -> None:
        self.stand_in = StandIn()

    @contextlib.contextmanager
    def running(self) -> Iterator[Served]:
        async def answer(request: Request) -> Response:
            return await self.stand_in.answer(request)

        with served(Starlette(routes=[Route("/graphql", answer, methods=["POST"])])) as running:
            yield running
