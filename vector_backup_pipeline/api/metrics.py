"""What `/metrics` answers, from readings of the roots and of Dagster that scrapes share."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Generic, TypeVar

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder

from vector_backup_pipeline import metrics
from vector_backup_pipeline.api.dagster_client import DagsterClient
from vector_backup_pipeline.api.run_reader import RunReader
from vector_backup_pipeline.engine.catalog.locations import BackupLocation
from vector_backup_pipeline.engine.errors import BackupError, ResourceNotFound
from vector_backup_pipeline.operations import OPERATIONS
from vector_backup_pipeline.settings import Settings

# Prometheus waits ten seconds by default.
_WAIT_SECONDS = 5.0
_FRESH_SECONDS = 10.0
# A source is read for at most a tenth of the time: a root may have many sets with large manifests.
_PAUSE = 10
# A slow source counts as unreachable after this time without a reading.
_MAX_AGE_SECONDS = 900.0
# Of each job, the newest; and the failed runs whose events are read at a time.
_MAX_RUNS, _MAX_FAILURES = 500, 20

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Metrics:
    """Collects the metrics of the installation and its targets. Belongs to one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._roots = [(s, _Source(partial(_read_root, s))) for s in settings.with_targets()]
        self._runs = _Source(self._read_runs)
        self._client = DagsterClient(settings.dagster_url)
        self._reader = RunReader(self._client)
        self._error_types: dict[str, str] = {}
        self._registry = CollectorRegistry()
        self._registry.register(self)

    async def aclose(self) -> None:
        await self._client.aclose()

    async def generate(self, accept: str) -> tuple[bytes, str]:
        """The metrics in the format that the header `accept` asks for, and their media type."""
        roots = (root.refresh() for _, root in self._roots)
        await asyncio.gather(self._runs.refresh(), *roots)
        try:
            encode, media_type = choose_encoder(accept)
        except TypeError:  # The header has a version that is not a number.
            encode, media_type = choose_encoder("")
        # In a thread, since a fleet has thousands of samples.
        return await run_sync(encode, self._registry, limiter=CapacityLimiter(1)), media_type

    def collect(self) -> Collection[GaugeMetricFamily]:
        """Called by the registry."""
        of_roots = (metrics.samples_of_root(s, root.value) for s, root in self._roots)
        samples = chain(metrics.samples_of_runs(self._runs.value), *of_roots)
        return metrics.metric_families(samples)

    async def _read_runs(self) -> list[metrics.RunSummary]:
        since = time.time() - metrics.RUN_DAYS * 86400
        jobs = [operation.job_name for operation in OPERATIONS]
        runs = [r for job in jobs for r in await self._client.recent(job, since, _MAX_RUNS)]
        failed = {run.run_id: run.job for run in runs if run.status == "FAILURE"}
        known = {run_id: self._error_types.get(run_id, "") for run_id in failed}
        for run_id in [run_id for run_id in known if not known[run_id]][:_MAX_FAILURES]:
            with contextlib.suppress(ResourceNotFound):
                error = (await self._reader.read(run_id, failed[run_id])).error
                known[run_id] = (error or BackupError).error_type
        self._error_types = known
        return [replace(run, error_type=known.get(run.run_id, "")) for run in runs]


class _Source(Generic[_T]):
    """What `read` returned last. It runs once at a time, and raises `BackupError` if the source
    cannot be reached."""

    def __init__(self, read: Callable[[], Awaitable[_T]]) -> None:
        self._read = read
        self._value: _T | None = None
        self._fresh_until = float("-inf")
        self._task: asyncio.Task[None] | None = None

    @property
    def value(self) -> _T | None:
        """None if the source cannot be reached."""
        is_old = time.monotonic() > self._fresh_until + _MAX_AGE_SECONDS
        return None if is_old else self._value

    async def refresh(self) -> None:
        """Read the source again if it is time. If that is slow, a later call has the value."""
        if self._task is None or (self._task.done() and time.monotonic() >= self._fresh_until):
            self._task = asyncio.create_task(self._read_once())
        await asyncio.wait([self._task], timeout=_WAIT_SECONDS)

    async def _read_once(self) -> None:
        begun_at, pause = time.monotonic(), _FRESH_SECONDS
        try:
            self._value = await self._read()
            pause = max(pause, _PAUSE * (time.monotonic() - begun_at))
        except BackupError as error:
            self._value = None
            _log.warning("Metrics are missing: %s", error)
        self._fresh_until = time.monotonic() + pause


async def _read_root(settings: Settings) -> list[BackupLocation]:
    limiter = CapacityLimiter(1)  # Slow storage may occupy all threads of the default one.
    return await run_sync(metrics.read_root, settings, abandon_on_cancel=True, limiter=limiter)
