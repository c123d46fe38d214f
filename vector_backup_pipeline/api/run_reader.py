"""Read runs through caches: few queries to Dagster, for any number of callers."""

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, TypeVar

from vector_backup_pipeline.api.dagster_client import DagsterClient, RunEvent, RunReading
from vector_backup_pipeline.api.errors import DagsterUnavailable
from vector_backup_pipeline.api.models import RunError, TableProgress
from vector_backup_pipeline.engine.errors import ResourceNotFound, RunCancelled, http_status_of
from vector_backup_pipeline.outcome import has_outcome, outcome_of

ENDED = frozenset({"SUCCESS", "FAILURE", "CANCELED"})
QUEUED = frozenset({"QUEUED", "NOT_STARTED"})
# One second, with a margin for clock resolution.
FRESH_SECONDS = 1.05
# A few KB each. A run that was evicted is read again from its beginning.
MAX_CACHED_RUNS = 256

_T = TypeVar("_T")


class Cached(Generic[_T]):
    """The answer of a query, at most `seconds` old. Concurrent callers share one query, and its
    failure. Belongs to one event loop."""

    def __init__(self, query: Callable[[], Awaitable[_T]], seconds: float = FRESH_SECONDS) -> None:
        self._query = query
        self._seconds = seconds
        self._answer: _T | DagsterUnavailable = DagsterUnavailable("Not asked yet.")
        self._asked_at = float("-inf")
        self._lock = asyncio.Lock()

    async def read(self, *, now: bool = False) -> _T:
        """The answer; with `now`, that of a new query. Raises `DagsterUnavailable`."""
        async with self._lock:
            if now or time.monotonic() - self._asked_at >= self._seconds:
                try:
                    self._answer = await self._query()
                except DagsterUnavailable as error:
                    self._answer = error
                self._asked_at = time.monotonic()
        if isinstance(self._answer, DagsterUnavailable):
            raise DagsterUnavailable(self._answer.message)
        return self._answer


class RunProgress:
    """A run as last read. `take` applies a newer reading."""

    reading: RunReading

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.cursor: str | None = None
        self.tables: dict[str, TableProgress] = {}
        self._outcome_metadata: list[Mapping[str, Any]] = []
        self._tables_of_steps: dict[str, str] = {}

    def take(self, reading: RunReading) -> None:
        self.reading, self.cursor = reading, reading.cursor
        for event in reading.events:
            self._take_event(event)
        if self.has_ended:
            for progress in self.tables.values():
                if progress.state in ("waiting", "running"):
                    progress.state, progress.seconds_left = "stopped", None

    @property
    def has_ended(self) -> bool:
        return self.reading.status in ENDED

    @property
    def result(self) -> dict[str, Any] | None:
        """The run's result, if it came to one."""
        return outcome_of(self._outcome_metadata).result

    @property
    def error(self) -> RunError | None:
        """Why the run failed, if it did."""
        outcome = outcome_of(self._outcome_metadata)
        error_type, message, can_retry = outcome.error_type, outcome.message, outcome.can_retry
        if error_type is None:
            return None
        if self.reading.status == "CANCELED":
            error_type, can_retry = RunCancelled.error_type, True
            if outcome.result is None and self.reading.started_at is None:
                message = "The run was canceled before it started."
            elif outcome.result is None:
                message = (
                    "The run was marked as canceled before it reported a result. It may still be "
                    "running: see its events in Dagster, and the list of backups."
                )
        return RunError(
            error_type=error_type,
            code=http_status_of(error_type),
            detail=str(message),
            can_retry=can_retry,
        )

    def _take_event(self, event: RunEvent) -> None:
        if has_outcome(event.metadata):
            self._outcome_metadata.append(event.metadata)
        if {"table", "step"} <= event.metadata.keys():
            # The step that plans the run names each table and its step.
            self._tables_of_steps[event.metadata["step"]] = event.metadata["table"]
            self.tables.setdefault(event.metadata["table"], TableProgress())
        elif event.step in self._tables_of_steps:
            self._take_table_event(event, self.tables[self._tables_of_steps[event.step]])

    def _take_table_event(self, event: RunEvent, progress: TableProgress) -> None:
        if event.kind == "ExecutionStepFailureEvent":
            progress.state = "failed"
        elif event.kind == "ExecutionStepOutputEvent":
            progress.state, progress.percent = "done", 100.0
        elif progress.state == "waiting":
            progress.state = "running"
        for key in TableProgress.model_fields.keys() & event.metadata.keys():
            setattr(progress, key, event.metadata[key])
        if progress.state not in ("waiting", "running"):
            progress.seconds_left = None


class RunReader:
    """The runs that callers ask about, each in a cache of its own."""

    def __init__(self, client: DagsterClient) -> None:
        self._client = client
        self._runs: dict[str, Cached[RunProgress | None]] = {}

    async def read(self, run_id: str, job: str, *, now: bool = False) -> RunProgress:
        """The run as of at most one second ago; with `now`, its current state.

        Raises:
            ResourceNotFound: there is no such run of `job`.
            DagsterUnavailable: Dagster does not answer.
        """
        cached = self._runs.pop(run_id, None)
        if cached is None:
            cached = Cached(functools.partial(self._read, RunProgress(run_id)))
        self._runs[run_id] = cached
        if len(self._runs) > MAX_CACHED_RUNS:
            del self._runs[next(iter(self._runs))]
        progress = await cached.read(now=now)
        if progress is None or progress.reading.job != job:
            raise ResourceNotFound(f"There is no run {run_id} of {job}. Check its id.")
        return progress

    async def _read(self, progress: RunProgress) -> RunProgress | None:
        """The run with its new events; None if it does not exist."""
        while reading := await self._client.read(progress.run_id, progress.cursor):
            progress.take(reading)
            if not reading.has_more:
                return progress
        return None
