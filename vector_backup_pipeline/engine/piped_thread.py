"""A thread that reads pieces of bytes from its caller, or writes pieces for it."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator

from vector_backup_pipeline.engine.cancellation import check

_POLL_SECONDS = 0.1
# A thread that waits for a server may take this long to notice that it is stopped.
_STOP_SECONDS = 60.0


class Stopped(Exception):
    """The other side of the queue has ended."""


class PipedThread:
    """A thread, and a queue between it and its caller, in one direction; the queue bounds the
    memory. It ends when the caller finishes or the thread ends, whichever comes first."""

    def __init__(self, work: Callable[[PipedThread], None], name: str, queued: int) -> None:
        """Start `work`, which uses `put` or `pieces`. At most `queued` pieces wait."""
        self._work = work
        self._queue: queue.Queue[bytes] = queue.Queue(queued)
        self._has_ended = threading.Event()
        self._is_stopped = False
        self._error: BaseException | None = None
        # A daemon thread, so that one that cannot reach a server does not block the exit.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, piece: bytes) -> None:
        """Raises `Stopped` if the other side has ended."""
        while not self._has_ended.is_set():
            check()
            with contextlib.suppress(queue.Full):
                self._queue.put(piece, timeout=_POLL_SECONDS)
                return
        raise Stopped

    def feed(self, piece: bytes) -> None:
        """Put a piece for the thread. Raises the error that the thread ended with."""
        if not piece:
            return  # To a reader, an empty piece is the end.
        try:
            self.put(piece)
        except Stopped:
            self.finish()
            raise

    def pieces(self) -> Iterator[bytes]:
        """The pieces that were put before the end. Raises `Stopped` after `stop`."""
        while True:
            check()
            is_complete = self._has_ended.is_set()
            if self._is_stopped:  # Checked last: `stop` ends the queue too, but completes nothing.
                raise Stopped
            try:
                yield self._queue.get(timeout=0 if is_complete else _POLL_SECONDS)
            except queue.Empty:
                if is_complete:
                    return

    def finish(self) -> None:
        """Wait for the thread, and raise its error."""
        self._has_ended.set()
        while self._thread.is_alive():
            check()
            self._thread.join(_POLL_SECONDS)
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """End the thread, whatever is in the queue. May be called again."""
        self._is_stopped = True
        self._has_ended.set()
        self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        try:
            self._work(self)
        except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
            self._error = error
        finally:
            self._has_ended.set()
