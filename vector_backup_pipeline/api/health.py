"""Dagster's health, queried at most once per second, since calls need no token."""

from __future__ import annotations

import asyncio
import time

from vector_backup_pipeline.api.dagster_client import DagsterClient, Health
from vector_backup_pipeline.api.errors import DagsterUnavailable
from vector_backup_pipeline.api.run_reader import FRESH_SECONDS


class HealthReader:
    """Belongs to one event loop."""

    def __init__(self, client: DagsterClient) -> None:
        self._client = client
        self._asking = asyncio.Lock()
        self._asked_at = float("-inf")
        self._known: Health | DagsterUnavailable = DagsterUnavailable("Dagster was not asked yet.")

    async def read(self) -> Health:
        """Raises `DagsterUnavailable`."""
        async with self._asking:
            if time.monotonic() - self._asked_at >= FRESH_SECONDS:
                self._known = await self._ask()
                self._asked_at = time.monotonic()
        if isinstance(self._known, DagsterUnavailable):
            raise DagsterUnavailable(self._known.message)
        return self._known

    async def _ask(self) -> Health | DagsterUnavailable:
        try:
            return await self._client.health()
        except DagsterUnavailable as error:
            return error
