"""Wait for runs to end. One query at a time reads the status of all runs that callers wait for."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

from vector_backup_pipeline.api.dagster_client import OUTAGE_SECONDS, DagsterClient
from vector_backup_pipeline.api.errors import DagsterUnavailable
from vector_backup_pipeline.api.run_progress import ENDED

# Answer within 0.3 s of the run's end, with two queries in between.
_LOOK_SECONDS = 0.1
_OUTAGE_LOOK_SECONDS = 1.0

_log = logging.getLogger(__name__)


class RunWatch:
    """Wakes callers when their run has ended. Belongs to one event loop."""

    def __init__(self, client: DagsterClient) -> None:
        self._client = client
        self._waiting: dict[asyncio.Future[None], str] = {}
        self._looking: asyncio.Task[None] | None = None
        self._is_stopped = False

    async def ended(self, run_id: str) -> None:
        """Return when the run has ended; may be cancelled.

        Raises:
            DagsterUnavailable: Dagster did not answer for a minute, or this service is stopping.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[future] = run_id
        if self._is_stopped:
            self.stop()
        elif self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        try:
            await future
        finally:
            self._waiting.pop(future, None)

    def stop(self) -> None:
        """End all waits: the service is stopping."""
        self._is_stopped = True
        self._fail_all("This service is being stopped.")

    async def aclose(self) -> None:
        self.stop()
        if self._looking is not None:
            self._looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._looking

    async def _look(self) -> None:
        try:
            await self._poll_while_awaited()
        except Exception:  # noqa: BLE001 - no caller may wait for ever.
            _log.exception("Runs can't be followed.")
            self._fail_all("This service could not follow its runs; see its log.")

    async def _poll_while_awaited(self) -> None:
        answered_at = time.monotonic()
        while self._waiting:
            asked = dict(self._waiting)
            try:
                statuses = await self._client.statuses(sorted(set(asked.values())))
            except DagsterUnavailable as error:
                _log.warning("%s", error)
                if time.monotonic() - answered_at > OUTAGE_SECONDS:
                    self._fail_all(error.message)
                await asyncio.sleep(_OUTAGE_LOOK_SECONDS)
                continue
            answered_at = time.monotonic()
            for future, run_id in asked.items():
                # A deleted run has no status.
                if statuses.get(run_id, "CANCELED") in ENDED and not future.done():
                    future.set_result(None)
            await asyncio.sleep(_LOOK_SECONDS)

    def _fail_all(self, reason: str) -> None:
        for future, run_id in self._waiting.items():
            if not future.done():
                future.set_exception(DagsterUnavailable(reason, run_id))
