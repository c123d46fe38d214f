"""A thread for each of several connections, none of which is ever left behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from vector_backup_pipeline.engine.background import Latch, Work
from vector_backup_pipeline.engine.interrupts import insist
from vector_backup_pipeline.engine.postgres.connection import Connection, cancel_quietly

# Who has said all it had to say ends in no time, and is not worth a cancel.
_ENDING_SECONDS = 0.05
_CANCEL_EVERY_SECONDS = 0.5


class ConnectionThreads:
    """Runs `work` once a connection, from `start` on, within a context: its end cancels what still
    runs, and waits.

    `stopped` is set from then on. `work` keeps its errors to itself, for the caller's thread.
    """

    def __init__(
        self, connections: Sequence[Connection], work: Callable[[Connection], None], name: str
    ) -> None:
        self._threads = [
            (Work(partial(work, each), f"{name}-{number}"), each)
            for number, each in enumerate(connections)
        ]
        self.stopped = Latch()

    def __len__(self) -> int:
        return len(self._threads)

    def start(self) -> None:
        for thread, _ in self._threads:
            thread.start()

    def end(self) -> None:
        insist(self._end)

    def _end(self) -> None:
        self.stopped.set()
        for thread, connection in self._threads:
            thread.call_off()
            patience = _ENDING_SECONDS
            while not thread.wait(patience):
                # Again and again: a cancel that arrives between two statements cancels nothing.
                cancel_quietly(connection)
                patience = _CANCEL_EVERY_SECONDS
