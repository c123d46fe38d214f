"""Read runs with a cache: at most one query per second and run, for any number of callers."""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from vector_backup_pipeline.api.dagster_client import DagsterClient
from vector_backup_pipeline.api.errors import DagsterUnavailable
from vector_backup_pipeline.api.run_progress import RunProgress
from vector_backup_pipeline.engine.errors import ResourceNotFound

# One second, with a margin for clock resolution.
FRESH_SECONDS = 1.05
# A few KB each. A run that was evicted is read again from its beginning.
_MOST_KNOWN = 256
_RUN_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass
class _Known:
    """A run as last read, None if it does not exist, and why the last read failed."""

    progress: RunProgress | None = None
    failure: str | None = None
    read_at: float = float("-inf")
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)


class RunReader:
    """Belongs to one event loop."""

    def __init__(self, client: DagsterClient) -> None:
        self._client = client
        self._known: OrderedDict[str, _Known] = OrderedDict()

    async def read(self, run_id: str, job: str, *, now: bool = False) -> RunProgress:
        """The run as of at most one second ago; with `now`, its current state.

        Raises:
            ResourceNotFound: there is no such run of `job`.
            DagsterUnavailable: Dagster does not answer.
        """
        progress = await self._read(run_id, now=now) if _RUN_ID.fullmatch(run_id) else None
        if progress is None or progress.job != job:
            raise ResourceNotFound(f"There is no run {run_id} of {job}. Check its id.")
        return progress

    async def _read(self, run_id: str, *, now: bool) -> RunProgress | None:
        known = self._remember(run_id)
        # Concurrent callers share one query.
        async with known.reading:
            is_fresh = time.monotonic() - known.read_at < FRESH_SECONDS
            is_over = known.progress is not None and known.progress.is_complete
            if not is_over and (now or not is_fresh):
                try:
                    await self._read_on(run_id, known)
                    known.failure = None
                except DagsterUnavailable as error:
                    # Concurrent callers share the failure too, instead of waiting for it in turn.
                    known.failure = error.message
                known.read_at = time.monotonic()
        if known.failure is not None:
            raise DagsterUnavailable(known.failure)
        return known.progress

    async def _read_on(self, run_id: str, known: _Known) -> None:
        while True:
            progress = known.progress
            reading = await self._client.read(run_id, progress.cursor if progress else None)
            if reading is None:
                known.progress = None
                return
            if progress is None:
                known.progress = RunProgress(run_id, reading)
            else:
                progress.take(reading)
            if not reading.has_more:
                return

    def _remember(self, run_id: str) -> _Known:
        known = self._known.setdefault(run_id, _Known())
        self._known.move_to_end(run_id)
        while len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)
        return known
