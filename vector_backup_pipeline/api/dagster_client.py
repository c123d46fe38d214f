"""A client for Dagster's GraphQL. One client serves any number of concurrent callers."""

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from vector_backup_pipeline.api.errors import DagsterUnavailable, RunUnresolved, StateConflict
from vector_backup_pipeline.engine.errors import InvalidParams

# A starting or loaded webserver takes seconds to answer; a missing one refuses at once.
_TIMEOUT = httpx.Timeout(15, connect=3)
# Within the seconds that a service has to end, so that it can still answer its callers.
_STATUS_TIMEOUT = httpx.Timeout(5, connect=3)
# This tag finds a run whose launch request got no answer.
_REQUEST_TAG = "vector_backup/request"
_LAUNCH_SECONDS, _LOOK_SECONDS = 5.0, 0.5
# Tolerates a restart of Dagster's webserver, during which runs continue.
OUTAGE_SECONDS = 60.0
# Exists only where runs are queued.
_QUEUE_DAEMON = "QUEUED_RUN_COORDINATOR"

_JOBS = """
query VectorBackupJobs {
  repositoriesOrError {
    __typename
    ... on RepositoryConnection { nodes { name location { name } pipelines { name } } }
    ... on Error { message }
  }
}
"""
_LAUNCH = """
mutation VectorBackupLaunch($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on RunConfigValidationInvalid { errors { message } }
    ... on Error { message }
  }
}
"""
_RUNS = """
query VectorBackupRuns($filter: RunsFilter!) {
  runsOrError(filter: $filter) {
    __typename
    ... on Runs { results { runId status } }
    ... on Error { message }
  }
}
"""
_RECENT = """
query VectorBackupRecent($job: String!, $since: Float!, $limit: Int!) {
  runsOrError(filter: {pipelineName: $job, createdAfter: $since}, limit: $limit) {
    __typename
    ... on Runs { results { jobName status endTime runConfig tags { key value } } }
    ... on Error { message }
  }
}
"""
# Dagster reads the run before its events, so these are at least as new as its status.
_RUN = """
query VectorBackupRun($run: ID!, $after: String) {
  runOrError(runId: $run) {
    __typename
    ... on Run {
      job: jobName status
      created_at: creationTime started_at: startTime ended_at: endTime
      page: eventConnection(afterCursor: $after) {
        cursor
        has_more: hasMore
        events {
          __typename
          ... on StepEvent { stepKey }
          ... on EngineEvent { metadataEntries { ...entry } }
          ... on ExecutionStepOutputEvent { metadataEntries { ...entry } }
          ... on ExecutionStepFailureEvent { failureMetadata { metadataEntries { ...entry } } }
        }
      }
    }
    ... on Error { message }
  }
}
fragment entry on MetadataEntry {
  label
  __typename
  ... on JsonMetadataEntry { jsonString }
  ... on TextMetadataEntry { text }
  ... on IntMetadataEntry { intRepr }
  ... on FloatMetadataEntry { floatValue }
  ... on BoolMetadataEntry { boolValue }
}
"""
_TERMINATE = """
mutation VectorBackupTerminate($run: String!) {
  terminateRun(runId: $run) {
    __typename
    ... on TerminateRunFailure { message }
    ... on Error { message }
  }
}
"""
_HEALTH = """
query VectorBackupHealth {
  version
  instance { daemonHealth { allDaemonStatuses { daemonType required healthy } } }
}
"""


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
    cursor: str
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


class _NoAnswer(DagsterUnavailable):
    """The request may have arrived, but its answer is lost or is not Dagster's."""


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
            # Ignores proxies and .netrc.
            trust_env=False,
        )
        self._location = location

    async def aclose(self) -> None:
        await self._http.aclose()

    async def launch(self, job: str, run_config: Mapping[str, Any], tags: Mapping[str, str]) -> str:
        """Start a run of `job` with the flat `run_config`; returns its id.

        Raises:
            InvalidParams: Dagster rejects the run config.
            RunUnresolved: the answer was lost, and the run was not found since.
        """
        selector = await self._find_job(job)
        tag = {"key": _REQUEST_TAG, "value": str(uuid.uuid4())}
        params = {
            "selector": selector,
            "runConfigData": run_config,
            "executionMetadata": {
                "tags": [tag, *({"key": key, "value": value} for key, value in tags.items())]
            },
        }
        expected = ("LaunchRunSuccess", "RunConfigValidationInvalid")
        try:
            answer = await self._ask(_LAUNCH, "launch the run", expected, params=params)
        except _NoAnswer as error:
            return await self._find_lost_run(tag, error)
        if "errors" in answer:
            raise InvalidParams(" ".join(error["message"] for error in answer["errors"]))
        return str(answer["run"]["runId"])

    async def statuses(self, **filters: Any) -> dict[str, str]:
        """The status of each run that these filters select, such as `runIds`."""
        answer = await self._ask(_RUNS, "read the status of runs", ["Runs"], filter=filters)
        return {run["runId"]: run["status"] for run in answer["results"]}

    async def recent(self, job: str, since: float, limit: int) -> list[dict[str, Any]]:
        """The newest runs of `job` that were created after `since`, in seconds since 1970, with the
        keys of the query."""
        answer = await self._ask(_RECENT, "list runs", ["Runs"], job=job, since=since, limit=limit)
        return list(answer["results"])

    async def read(self, run_id: str, after: str | None = None) -> RunReading | None:
        """The run and its events after the cursor `after`; None if the run does not exist."""
        expected = ("Run", "RunNotFoundError")
        run = await self._ask(_RUN, f"read the run {run_id}", expected, run=run_id, after=after)
        if run.pop("__typename") == "RunNotFoundError":
            return None
        page = run.pop("page")
        events = [_event(event) for event in page.pop("events")]
        return RunReading(**run, **page, events=events)

    async def terminate(self, run_id: str) -> None:
        """Request the termination of a run. Raises `StateConflict` if that is no longer
        possible."""
        action, expected = f"end the run {run_id}", ("TerminateRunSuccess", "TerminateRunFailure")
        answer = await self._ask(_TERMINATE, action, expected, run=run_id)
        if answer["__typename"] == "TerminateRunFailure":
            raise StateConflict(f"Dagster could not end the run {run_id}: {answer['message']}")

    async def health(self) -> Health:
        answer = await self._post(_HEALTH, {})
        daemons = answer["instance"]["daemonHealth"]["allDaemonStatuses"]
        return Health(
            version=answer["version"],
            daemons={d["daemonType"]: d["healthy"] is True for d in daemons if d["required"]},
        )

    async def _find_job(self, job: str) -> dict[str, str]:
        """The job's selector, in the code location from the settings, else the only one with it."""
        answer = await self._ask(_JOBS, "list its jobs", ["RepositoryConnection"])
        repositories = {
            node["location"]["name"]: node["name"]
            for node in answer["nodes"]
            if job in {pipeline["name"] for pipeline in node["pipelines"]}
        }
        location = self._location
        if location is None and len(repositories) == 1:
            (location,) = repositories
        if location not in repositories:
            raise DagsterUnavailable(
                f"Dagster answers, but the job {job} is not loaded, or not in one location alone "
                f"(loaded in: {', '.join(repositories) or 'none'}). See Deployment in its UI, or "
                "set VECTOR_BACKUP_DAGSTER_LOCATION."
            )
        return {
            "repositoryLocationName": location,
            "repositoryName": repositories[location],
            "jobName": job,
        }

    async def _find_lost_run(self, tag: Mapping[str, str], error: DagsterUnavailable) -> str:
        """The run with that tag. Waits for Dagster, and then for the launch to finish."""
        give_up_at = time.monotonic() + OUTAGE_SECONDS
        while time.monotonic() < give_up_at:
            with contextlib.suppress(DagsterUnavailable):
                for run_id, status in (await self.statuses(tags=[tag])).items():
                    # If a webserver stops before it queues the run, the run keeps this status.
                    if status != "NOT_STARTED":
                        return run_id
                give_up_at = min(give_up_at, time.monotonic() + _LAUNCH_SECONDS)
            await asyncio.sleep(_LOOK_SECONDS)
        raise RunUnresolved(
            f"{error.message} The run may have been launched and may still start: look for a run "
            f"with the tag {_REQUEST_TAG}={tag['value']} in Dagster's UI before you send this call "
            "again."
        ) from error

    async def _ask(
        self, query: str, action: str, expected: Sequence[str], **variables: Any
    ) -> dict[str, Any]:
        """The answer in the query's only field, which must have one of the expected types."""
        answer: dict[str, Any]
        (answer,) = (await self._post(query, variables)).values()
        if answer["__typename"] not in expected:
            # Only the first line: a stack trace follows in Dagster's own errors.
            lines = str(answer.get("message") or answer["__typename"]).strip().splitlines()
            raise DagsterUnavailable(f"Dagster could not {action}: {lines[0]}")
        return answer

    async def _post(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        timeout = _STATUS_TIMEOUT if query is _RUNS else _TIMEOUT
        try:
            reply = await self._http.post(
                "/graphql", json={"query": query, "variables": variables}, timeout=timeout
            )
            answer: Any = reply.json() if reply.is_success else {}
        except httpx.HTTPError as error:
            never_arrived = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            kind = DagsterUnavailable if never_arrived else _NoAnswer
            raise kind(
                f"Dagster's webserver was not reached ({type(error).__name__}). Check that it is "
                "running, and VECTOR_BACKUP_DAGSTER_URL."
            ) from error
        except ValueError as error:
            raise _NoAnswer(
                "The server at VECTOR_BACKUP_DAGSTER_URL is not Dagster's webserver."
            ) from error
        data = answer.get("data") if isinstance(answer, dict) else None
        if not data or "errors" in answer:
            raise _NoAnswer(
                f"Dagster's webserver sent an unexpected answer (HTTP {reply.status_code}). It may "
                "still be starting, or have an incompatible version. Check "
                "VECTOR_BACKUP_DAGSTER_URL, and the webserver's own log."
            )
        return dict(data)


def _event(event: Mapping[str, Any]) -> RunEvent:
    holder = event.get("failureMetadata") or event
    return RunEvent(
        kind=event["__typename"],
        step=event.get("stepKey"),
        metadata={e["label"]: _value(e) for e in holder.get("metadataEntries", ())},
    )


def _value(entry: Mapping[str, Any]) -> Any:
    kind = entry["__typename"]
    if kind == "JsonMetadataEntry":
        return json.loads(entry["jsonString"])
    if kind == "IntMetadataEntry":
        return int(entry["intRepr"])
    return next((entry[key] for key in ("text", "floatValue", "boolValue") if key in entry), None)
