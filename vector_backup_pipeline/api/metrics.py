"""What `/metrics` answers, from readings of the roots and of Dagster that scrapes share."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import chain
from typing import Any, TypeVar

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from vector_backup_pipeline import metrics
from vector_backup_pipeline.api.dagster_client import DagsterClient
from vector_backup_pipeline.api.run_reader import Cached
from vector_backup_pipeline.engine.catalog.locations import BackupLocation
from vector_backup_pipeline.engine.errors import BackupError
from vector_backup_pipeline.operations import OPERATIONS
from vector_backup_pipeline.settings import Settings

# Prometheus waits ten seconds by default.
_WAIT_SECONDS = 8.0
# As long as the usual interval of scrapes, so that the next one has a reading that took longer.
_FRESH_SECONDS = 60.0
# Of each job, the newest.
_MAX_RUNS = 500

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Metrics:
    """The metrics of the installation and its targets. Belongs to one event loop."""

    def __init__(self, settings: Settings, client: DagsterClient) -> None:
        self._roots = [
            (target, Cached(partial(_read_root, target), _FRESH_SECONDS))
            for target in settings.with_targets()
        ]
        self._runs = Cached(self._read_runs, _FRESH_SECONDS)
        self._client = client

    async def generate(self, accept: str) -> tuple[bytes, str]:
        """The metrics in the format that the header `accept` asks for, and their media type."""
        runs, roots = await asyncio.gather(
            _reading(self._runs.read), asyncio.gather(*(_reading(c.read) for _, c in self._roots))
        )
        of_roots = (
            metrics.samples_of_root(target, locations)
            for (target, _), locations in zip(self._roots, roots, strict=True)
        )
        registry = CollectorRegistry()
        registry.register(metrics.Samples(chain(metrics.samples_of_runs(runs), *of_roots)))
        try:
            encode, media_type = choose_encoder(accept)
        except (TypeError, ValueError):  # The header has a version that is not a number.
            encode, media_type = choose_encoder("")
        # In a thread, since a fleet has thousands of samples.
        return await run_sync(encode, registry, limiter=CapacityLimiter(1)), media_type

    async def _read_runs(self) -> list[dict[str, Any]]:
        since = time.time() - metrics.RUN_DAYS * 86400
        jobs = [operation.job_name for operation in OPERATIONS]
        return [r for job in jobs for r in await self._client.recent(job, since, _MAX_RUNS)]


async def _reading(read: Callable[[], Awaitable[_T]]) -> _T | None:
    """None if the source cannot be read in time. If that is slow, a later scrape has the value."""
    try:
        return await asyncio.wait_for(asyncio.shield(read()), _WAIT_SECONDS)
    except (BackupError, asyncio.TimeoutError) as error:
        _log.warning("Metrics are missing: %s", str(error) or "reading takes too long")
        return None


async def _read_root(settings: Settings) -> list[BackupLocation]:
    limiter = CapacityLimiter(1)  # Slow storage may occupy all threads of the default one.
    return await run_sync(metrics.read_root, settings, abandon_on_cancel=True, limiter=limiter)
