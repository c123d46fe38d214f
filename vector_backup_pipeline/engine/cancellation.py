"""Canceling a run: a flag that a signal sets, and what the engine does about it.

No exception is raised in the middle of the code. While `listening`, a signal sets the flag and ends
the run's database connections, so that nothing waits for a server; the engine looks at the flag
between blocks (`check`), cleans up, and raises RunCancelled. Afterwards the signal is raised again
for the handlers that were there before.

What must not be torn (COMMIT, a truncate, a removal, cleaning up) is done `uncancellable`.

Signals belong to the process, and so does the flag: one process, one run.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Protocol, TypeAlias
from weakref import WeakSet

from vector_backup_pipeline.engine.errors import BackupError, RunCancelled, as_backup_error

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# The end of a watch; no signal has this number.
_END = 0

_Handler: TypeAlias = Callable[[int, FrameType | None], object] | int


class Abandonable(Protocol):
    """What may wait for others: from any thread, `abandon` ends its waiting, for good."""

    def abandon(self) -> None: ...


class Cancellation:
    """Whether a run is to end."""

    def __init__(self) -> None:
        self.is_requested = False
        self._waiting: WeakSet[Abandonable] = WeakSet()
        # Held while something uncancellable goes on.
        self._lock = threading.RLock()

    def mark(self) -> None:
        """Set the flag; a signal's handler may do that, since it takes no lock."""
        self.is_requested = True

    def request(self) -> None:
        """Set the flag, and end what waits, as soon as nothing uncancellable goes on."""
        self.mark()
        with self._lock:
            for each in list(self._waiting):
                each.abandon()

    def check(self) -> None:
        """Raise RunCancelled if the run is to end."""
        if self.is_requested:
            raise RunCancelled

    def covers(self, waiting: Abandonable) -> None:
        """Abandon `waiting` when the run is to end; now, if it already is."""
        with self._lock:
            self._waiting.add(waiting)
            if self.is_requested:
                waiting.abandon()

    @contextlib.contextmanager
    def held_off(self) -> Iterator[None]:
        with self._lock:
            yield


# Nobody listens yet, and so nobody sets it.
_current = Cancellation()
_last_signal: int | None = None


def check() -> None:
    """Raise RunCancelled if the run is to end."""
    _current.check()


def is_requested() -> bool:
    return _current.is_requested


def last_signal() -> str | None:
    """The name of the last signal that came to what listened."""
    return None if _last_signal is None else signal.Signals(_last_signal).name


def as_run_error(cause: BaseException) -> BackupError:
    """What ended a run. An error of a driver follows from a cancellation, if one is requested."""
    if is_requested() and not isinstance(cause, BackupError):
        return RunCancelled()
    return as_backup_error(cause)


def covers(waiting: Abandonable) -> None:
    """Abandon `waiting` when the run is to end."""
    _current.covers(waiting)


@contextlib.contextmanager
def uncancellable(*, unless_requested: bool = False) -> Iterator[None]:
    """Do what the block does to its end. A signal is heeded afterwards.

    With `unless_requested` the block is not begun, and RunCancelled raised, if the run is to end.
    """
    global _current
    outer = _current
    with outer.held_off():
        if unless_requested:
            outer.check()
        _current = Cancellation()
        try:
            yield
        finally:
            _current = outer


@contextlib.contextmanager
def listening() -> Iterator[Cancellation]:
    """Let signals cancel what the block does.

    Outside the main thread, which alone gets signals, nothing is listened to.
    """
    global _current
    outer, _current = _current, Cancellation()
    try:
        with deferred_signals(_current.mark, _current.request):
            yield _current
    finally:
        _current = outer


@contextlib.contextmanager
def deferred_signals(
    mark: Callable[[], None] = lambda: None, on_signal: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Keep signals from the block, and raise the last one after it, for the handlers of before.

    `mark` is called in this thread, when it runs Python code, `on_signal` at once in another: this
    one may be waiting in C code, and Python runs handlers only when that returns.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    earlier: dict[int, _Handler] = {}
    reader, writer = socket.socketpair()
    try:
        with reader, writer:
            writer.setblocking(False)
            watch = threading.Thread(
                target=_watch, args=(reader, on_signal), name="vector-backup-signals", daemon=True
            )
            watch.start()
            earlier_fd = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
            try:
                _replace(earlier, received, mark)
                yield
            finally:
                signal.set_wakeup_fd(earlier_fd)
                writer.setblocking(True)
                writer.send(bytes([_END]))
                watch.join()
                _restore(earlier)
    finally:
        if received:
            signal.raise_signal(received[-1])


def _replace(earlier: dict[int, _Handler], received: list[int], mark: Callable[[], None]) -> None:
    """Put a handler in place that only notes the signal. What is ignored stays ignored."""

    def note(number: int, _: FrameType | None) -> None:
        global _last_signal
        _last_signal = number
        received.append(number)
        mark()

    for number in _SIGNALS:
        handler = signal.getsignal(number)
        if handler is not None and handler is not signal.SIG_IGN:
            earlier[number] = handler
            signal.signal(number, note)


def _restore(earlier: dict[int, _Handler]) -> None:
    """Again from the start if a handler that is back raises at once, so that none is left out."""
    raised: BaseException | None = None
    for _ in range(1 + len(earlier)):
        try:
            for number, handler in earlier.items():
                signal.signal(number, handler)
            break
        except BaseException as error:  # noqa: BLE001 - raised below
            raised = error
    if raised is not None:
        raise raised


def _watch(reader: socket.socket, on_signal: Callable[[], None]) -> None:
    while (numbers := reader.recv(64)) and numbers[-1] != _END:
        if any(number in _SIGNALS for number in numbers):
            on_signal()
