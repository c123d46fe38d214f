"""The heartbeat by which a run's marker shows that the run lives."""

from __future__ import annotations

from collections.abc import Callable

from vector_backup_pipeline.engine.interrupts import Latch, Work
from vector_backup_pipeline.engine.storage.contract import HEARTBEAT_SECONDS


class Heart:
    """Beats in a thread of its own, from `HEARTBEAT_SECONDS` on, until `beat` returns False or it
    is stopped."""

    def __init__(self, beat: Callable[[], bool]) -> None:
        self._beat = beat
        self._stopped = Latch()
        self._beating = Work(self._keep_beating, "vector-backup-heartbeat")
        self._beating.start()

    def stop(self) -> None:
        """No beat comes after this; it waits for one that is under way."""
        self._stopped.set()
        self._beating.outcome()

    def _keep_beating(self) -> None:
        while not self._stopped.wait(HEARTBEAT_SECONDS) and self._beat():
            pass
