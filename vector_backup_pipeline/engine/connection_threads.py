"""A thread for each of several connections, none of which is ever left behind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from vector_backup_pipeline.engine.interrupts import Latch
from vector_backup_pipeline.engine.postgres.connection import Connection, cancel_quietly

_CANCEL_EVERY_SECONDS = 0.5


class ConnectionThreads:
    """Runs `work` once a connection, as a context: its end cancels what still runs, and joins.

    `stopped` is set from then on. `work` keeps its errors to itself, for the caller's thread.
    """

    def __init__(
        self, connections: Sequence[Connection], work: Callable[[Connection], None], name: str
    ) -> None:
        self._connections = connections
        self._threads = [
            threading.Thread(target=work, args=(each,), name=f"{name}-{number}")
            for number, each in enumerate(connections)
        ]
        self.stopped = Latch()

    def __len__(self) -> int:
        return len(self._threads)

    def __enter__(self) -> ConnectionThreads:
        try:
            for thread in self._threads:
                thread.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        for thread, connection in zip(self._threads, self._connections, strict=True):
            while thread.is_alive():
                # Again and again: a cancel that arrives between two statements cancels nothing.
                cancel_quietly(connection)
                thread.join(_CANCEL_EVERY_SECONDS)
