"""A client for Dagster's GraphQL. One client serves any number of concurrent callers."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import httpx

from vector_backup_pipeline.api import queries
from vector_backup_pipeline.api.errors import DagsterUnavailable, RunUnresolved, StateConflict
from vector_backup_pipeline.engine.errors import InvalidParams

_P = ParamSpec("_P")
_T = TypeVar("_T")

# A starting or loaded webserver takes seconds to answer; a missing one refuses at once.
_TIMEOUT = httpx.Timeout(15, connect=3)
# The name in workspace.yaml, used when several code locations have the jobs.
_USUAL_LOCATION = "vector_backup_pipeline"
# This tag finds a run whose launch request got no answer.
_REQUEST_TAG = "vector_backup/request"
_LAUNCH_SECONDS, _LOOK_SECONDS = 5.0, 0.5
# Tolerates a restart of Dagster's webserver, during which runs continue.
OUTAGE_SECONDS = 60.0
# Exists only where runs are queued.
_QUEUE_DAEMON = "QUEUED_RUN_COORDINATOR"
_NOT_UNDERSTOOD = (
    "Dagster's webserver sent an unexpected answer. It may still be starting, or have an "
    "incompatible version. See its log."
)


@dataclass(frozen=True)
class RunEvent:
    """An event of a run: its GraphQL type, its step if any, and its metadata by label."""

    kind: str
    step: str | None
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class RunReading:
    """A run and its events after a cursor. Times in seconds since 1970, None if not reached."""

    job: str
    status: str
    created_at: float | None
    started_at: float | None
    ended_at: float | None
    events: Sequence[RunEvent]
    cursor: str | None
    has_more: bool


@dataclass(frozen=True)
class Health:
    """Dagster's version, and for each required daemon whether it is running."""

    version: str
    daemons: Mapping[str, bool]

    @property
    def has_stuck_queue(self) -> bool:
        """Whether runs are queued and the daemon that starts them is not running."""
        return self.daemons.get(_QUEUE_DAEMON) is False


def _understood(
    method: Callable[_P, Coroutine[Any, Any, _T]],
) -> Callable[_P, Coroutine[Any, Any, _T]]:
    """Report an answer of an unexpected shape as `DagsterUnavailable`."""

    @functools.wraps(method)
    async def asked(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return await method(*args, **kwargs)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise DagsterUnavailable(_NOT_UNDERSTOOD) from error

    return asked


class DagsterClient:
    """Launches, reads and terminates runs.

    Every method raises `DagsterUnavailable` if Dagster does not answer as it should.
    """

    def __init__(self, url: str, location: str | None = None) -> None:
        address = httpx.URL(url)
        self._http = httpx.AsyncClient(
            # Keeps a password in the URL out of requests and errors.
            base_url=address.copy_with(userinfo=b""),
            auth=(address.username, address.password) if address.userinfo else None,
            timeout=_TIMEOUT,
            # Ignores proxies and .netrc.
            trust_env=False,
        )
        self._location = location
        self._selector: dict[str, str] | None = None

    async def aclose(self) -> None:
        await self._http.aclose()

    @_understood
    async def launch(self, job: str, run_config: Mapping[str, Any]) -> str:
        """Start a run of `job` with the flat `run_config`; returns its id.

        Raises:
            InvalidParams: Dagster rejects the run config.
        """
        answer = await self._submit(job, run_config)
        if not isinstance(answer, str) and answer["__typename"] == "PipelineNotFoundError":
            self._selector = None  # The code location was renamed.
            answer = await self._submit(job, run_config)
        if isinstance(answer, str):
            return answer
        if answer["__typename"] == "RunConfigValidationInvalid":
            raise InvalidParams(" ".join(each["message"] for each in answer["errors"]))
        raise _refused("launch the run", answer)

    @_understood
    async def statuses(self, run_ids: Sequence[str]) -> dict[str, str]:
        """The status of each run that exists."""
        answer = (await self._ask(queries.STATUSES, runs=list(run_ids)))["runsOrError"]
        if answer["__typename"] != "Runs":
            raise _refused("tell the status of runs", answer)
        return {each["runId"]: each["status"] for each in answer["results"]}

    @_understood
    async def read(self, run_id: str, after: str | None = None) -> RunReading | None:
        """The run and its events after the cursor `after`; None if the run does not exist."""
        answer = await self._ask(queries.RUN, run=run_id, after=after)
        run, events = answer["runOrError"], answer["logsForRun"]
        if "RunNotFoundError" in (run["__typename"], events["__typename"]):
            return None
        for each, wanted in ((run, "Run"), (events, "EventConnection")):
            if each["__typename"] != wanted:
                raise _refused(f"tell of the run {run_id}", each)
        return RunReading(
            job=run["jobName"],
            status=run["status"],
            created_at=run["creationTime"],
            started_at=run["startTime"],
            ended_at=run["endTime"],
            events=[_event(each) for each in events["events"]],
            cursor=events["cursor"],
            has_more=events["hasMore"],
        )

    @_understood
    async def terminate(self, run_id: str) -> None:
        """Request the termination of a run.

        Raises:
            StateConflict: the run can no longer be terminated.
        """
        answer = (await self._ask(queries.TERMINATE, run=run_id))["terminateRun"]
        if answer["__typename"] == "TerminateRunFailure":
            raise StateConflict(f"Dagster could not end the run {run_id}: {answer['message']}")
        if answer["__typename"] != "TerminateRunSuccess":
            raise _refused(f"end the run {run_id}", answer)

    @_understood
    async def health(self) -> Health:
        answer = await self._ask(queries.HEALTH)
        daemons = answer["instance"]["daemonHealth"]["allDaemonStatuses"]
        return Health(
            version=answer["version"],
            daemons={d["daemonType"]: d["healthy"] is True for d in daemons if d["required"]},
        )

    async def _find_jobs(self, job: str) -> dict[str, str]:
        """The code location of the jobs: from the settings, else the only one that has them."""
        if self._selector is not None:
            return self._selector
        answer = (await self._ask(queries.JOBS))["repositoriesOrError"]
        if answer["__typename"] != "RepositoryConnection":
            raise _refused("list its jobs", answer)
        found = {
            node["location"]["name"]: node["name"]
            for node in answer["nodes"]
            if job in {each["name"] for each in node["pipelines"]}
        }
        usual = _USUAL_LOCATION if len(found) != 1 else next(iter(found))
        wanted = self._location or usual
        if wanted not in found:
            raise DagsterUnavailable(
                f"Dagster answers, but no code location {wanted} with the job {job} is loaded "
                f"(there is: {', '.join(found) or 'none'}). See Deployment in its UI, or set "
                "VECTOR_BACKUP_DAGSTER_LOCATION."
            )
        self._selector = {"repositoryLocationName": wanted, "repositoryName": found[wanted]}
        return self._selector

    async def _submit(self, job: str, run_config: Mapping[str, Any]) -> str | dict[str, Any]:
        """The new run's id, or Dagster's error."""
        selector = await self._find_jobs(job)
        tag = {"key": _REQUEST_TAG, "value": str(uuid.uuid4())}
        params = {
            "selector": selector | {"jobName": job},
            "runConfigData": run_config,
            "executionMetadata": {"tags": [tag]},
        }
        try:
            return await self._launch_once(params)
        except DagsterUnavailable as error:
            if isinstance(error.__cause__, httpx.ConnectError | httpx.ConnectTimeout):
                raise
            # The run may have been launched.
            return await self._find_lost_run(tag, error)

    @_understood
    async def _launch_once(self, params: Mapping[str, Any]) -> str | dict[str, Any]:
        answer: dict[str, Any] = (await self._ask(queries.LAUNCH, params=params))["launchRun"]
        if answer["__typename"] == "LaunchRunSuccess":
            return str(answer["run"]["runId"])
        return answer

    async def _find_lost_run(self, tag: Mapping[str, str], error: DagsterUnavailable) -> str:
        """The run with that tag. Waits for Dagster, and then for the launch to finish."""
        give_up_at = time.monotonic() + OUTAGE_SECONDS
        while time.monotonic() < give_up_at:
            found = None
            with contextlib.suppress(DagsterUnavailable):
                found = await self._run_with_tag(tag)
                give_up_at = min(give_up_at, time.monotonic() + _LAUNCH_SECONDS)
            if found is not None:
                return found
            await asyncio.sleep(_LOOK_SECONDS)
        raise RunUnresolved(
            f"{error.message} The run may have been launched and may still start: look for a run "
            f"with the tag {_REQUEST_TAG}={tag['value']} in Dagster's UI before you send this call "
            "again."
        ) from error

    @_understood
    async def _run_with_tag(self, tag: Mapping[str, str]) -> str | None:
        answer = (await self._ask(queries.RUNS_WITH_TAG, tag=tag))["runsOrError"]
        for each in answer.get("results") or ():
            # A webserver that stopped before queueing the run leaves it here for ever.
            return None if each["status"] == "NOT_STARTED" else str(each["runId"])
        return None

    async def _ask(self, query: str, **variables: Any) -> dict[str, Any]:
        try:
            reply = await self._http.post("/graphql", json={"query": query, "variables": variables})
            answer: Any = reply.json() if reply.is_success else None
        except httpx.HTTPError as error:
            raise DagsterUnavailable(
                f"Dagster's webserver was not reached ({type(error).__name__}). Check that it is "
                "running, and VECTOR_BACKUP_DAGSTER_URL."
            ) from error
        except ValueError as error:
            raise DagsterUnavailable(
                "The server at VECTOR_BACKUP_DAGSTER_URL is not Dagster's webserver."
            ) from error
        if not reply.is_success:
            raise DagsterUnavailable(
                f"Dagster's webserver answered with HTTP {reply.status_code}. Check "
                "VECTOR_BACKUP_DAGSTER_URL, and the webserver's own log."
            )
        data = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(data, dict) or answer.get("errors"):
            raise DagsterUnavailable(_NOT_UNDERSTOOD)
        return data


def _event(told: Mapping[str, Any]) -> RunEvent:
    holder = told.get("failureMetadata") or told
    return RunEvent(
        kind=told["__typename"],
        step=told.get("stepKey"),
        metadata={e["label"]: _value(e) for e in holder.get("metadataEntries", ())},
    )


def _value(entry: Mapping[str, Any]) -> Any:
    kind = entry["__typename"]
    if kind == "JsonMetadataEntry":
        return json.loads(entry["jsonString"])
    if kind == "IntMetadataEntry":
        return int(entry["intRepr"])
    for key in ("text", "floatValue", "boolValue"):
        if key in entry:
            return entry[key]
    return None


def _refused(action: str, answer: Mapping[str, Any]) -> DagsterUnavailable:
    # Only the first line: a stack trace follows in Dagster's own errors.
    said = str(answer.get("message") or "").strip() or str(answer["__typename"])
    return DagsterUnavailable(f"Dagster could not {action}: {said.splitlines()[0]}")
