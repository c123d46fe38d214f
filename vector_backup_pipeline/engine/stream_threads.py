"""Work on several connections at once: a thread for each, one caller who takes what they emit."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from vector_backup_pipeline.engine import cancellation
from vector_backup_pipeline.engine.postgres.connection import Connection, cancel_statements

_T = TypeVar("_T")

# How often a waiting thread checks whether it should stop.
_POLL_SECONDS = 0.1
_JOIN_SECONDS = 0.05
_CANCEL_EVERY_SECONDS = 0.5
# A server that has not ended its statements by then will not.
_PATIENCE_SECONDS = 5.0


class StreamThreads(Generic[_T]):
    """Runs `work` in a thread for each connection. Iterating yields what they emit until all have
    ended, and raises the first error of a thread.

    A context: on leaving, `stopped` is set, running statements are canceled, and no thread is left.
    With `queued`, at most that many items wait for the caller, which bounds the memory.
    """

    def __init__(
        self,
        connections: Sequence[Connection],
        work: Callable[[Connection, StreamThreads[_T]], None],
        name: str,
        queued: int = 0,
    ) -> None:
        self._work = work
        self._connections = connections
        self._threads = [
            threading.Thread(
                target=self._run, args=(connection,), name=f"{name}-{number}", daemon=True
            )
            for number, connection in enumerate(connections)
        ]
        self._items: queue.Queue[_T | _Ended] = queue.Queue(queued)
        self.stopped = threading.Event()

    def __enter__(self) -> StreamThreads[_T]:
        for thread in self._threads:
            thread.start()
        return self

    def __iter__(self) -> Iterator[_T]:
        running = len(self._threads)
        while running:
            cancellation.check()
            try:
                item = self._items.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            if not isinstance(item, _Ended):
                yield item
                del item  # It may be large; do not keep it while waiting for the next one.
            elif item.error is not None:
                raise item.error
            else:
                running -= 1

    def emit(self, item: _T | _Ended) -> None:
        """Hand an item to the caller. After `stopped` it is dropped: an exception here would leave
        the connection in the middle of a COPY, which the canceled statement ends properly."""
        while not self.stopped.is_set():
            with contextlib.suppress(queue.Full):
                self._items.put(item, timeout=_POLL_SECONDS)
                return

    def __exit__(self, *_: object) -> None:
        """The connections stay usable, unless the server does not cancel their statements in
        time."""
        self.stopped.set()
        deadline = time.monotonic() + _PATIENCE_SECONDS
        next_cancel = time.monotonic() + _JOIN_SECONDS
        while running := self._running():
            if cancellation.is_requested() or time.monotonic() >= deadline:
                for connection in running:
                    connection.abandon()
            elif time.monotonic() >= next_cancel:
                # Repeated, because a cancel between two statements cancels nothing.
                cancel_statements(running)
                next_cancel = time.monotonic() + _CANCEL_EVERY_SECONDS

    def _run(self, connection: Connection) -> None:
        try:
            self._work(connection, self)
            self.emit(_Ended(None))
        except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
            self.emit(_Ended(error))

    def _running(self) -> list[Connection]:
        """The connections of the threads that don't end within a moment."""
        running = []
        for thread, connection in zip(self._threads, self._connections, strict=True):
            if thread.ident is not None:
                thread.join(_JOIN_SECONDS)
                if thread.is_alive():
                    running.append(connection)
        return running


@dataclass(frozen=True)
class _Ended:
    """A thread is done, or failed with `error`."""

    error: BaseException | None
