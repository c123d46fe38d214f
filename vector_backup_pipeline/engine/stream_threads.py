"""A thread for each of several connections, all of which end together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from vector_backup_pipeline.engine.cancellation import is_requested
from vector_backup_pipeline.engine.postgres.connection import Connection, cancel_statements

_JOIN_SECONDS = 0.05
_CANCEL_EVERY_SECONDS = 0.5
# A server that has not ended its statements by then will not.
_PATIENCE_SECONDS = 5.0


class StreamThreads:
    """Runs `work` once for each connection, from `start` until `end`.

    `stopped` is set from then on. `work` keeps its errors for the caller's thread.
    """

    def __init__(
        self, connections: Sequence[Connection], work: Callable[[Connection], None], name: str
    ) -> None:
        self._connections = connections
        self._threads = [
            threading.Thread(target=work, args=(stream,), name=f"{name}-{number}", daemon=True)
            for number, stream in enumerate(connections)
        ]
        self.stopped = threading.Event()

    def __len__(self) -> int:
        return len(self._threads)

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Wait for the threads, and cancel the statements of those that do not end by themselves.

        Their connections stay usable, unless the server does not cancel them in time.
        """
        self.stopped.set()
        deadline = time.monotonic() + _PATIENCE_SECONDS
        next_cancel = time.monotonic() + _JOIN_SECONDS
        while running := self._running():
            if is_requested() or time.monotonic() >= deadline:
                for connection in running:
                    connection.abandon()
            elif time.monotonic() >= next_cancel:
                # Repeated: a cancel between two statements cancels nothing.
                cancel_statements(running)
                next_cancel = time.monotonic() + _CANCEL_EVERY_SECONDS

    def _running(self) -> list[Connection]:
        """The connections of threads that are still running in a moment."""
        running = []
        for thread, connection in zip(self._threads, self._connections, strict=True):
            if thread.ident is not None:
                thread.join(_JOIN_SECONDS)
                if thread.is_alive():
                    running.append(connection)
        return running
