"""The heartbeat by which a run's marker shows that the run lives."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from vector_backup_pipeline.engine.storage.contract import HEARTBEAT_SECONDS

_log = logging.getLogger("vector_backup_pipeline")


class Heart:
    """Beats every `HEARTBEAT_SECONDS` in a thread of its own, from `start` on, until `beat` returns
    False or it is stopped."""

    def __init__(self, beat: Callable[[], bool]) -> None:
        self._beat = beat
        self._stopped = threading.Event()
        self._beating = threading.Thread(
            target=self._keep_beating, name="vector-backup-heartbeat", daemon=True
        )

    def start(self) -> None:
        self._beating.start()

    def stop(self) -> None:
        """No beat comes after this; it waits for one that is under way."""
        self._stopped.set()
        if self._beating.ident is not None:
            self._beating.join()

    def _keep_beating(self) -> None:
        while not self._stopped.wait(HEARTBEAT_SECONDS):
            try:
                if not self._beat():
                    return
            except Exception:  # noqa: BLE001 - a defect must not end the run's claim
                _log.exception("The heartbeat of a run's marker failed; it is tried again.")
