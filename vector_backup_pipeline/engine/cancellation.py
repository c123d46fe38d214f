"""Canceling a run: a flag that a signal sets, and what the engine does about it.

No exception is raised in the middle of the code. While `listening`, a signal sets the flag and ends
the run's database connections, so that nothing waits for a server; the engine looks at the flag
between blocks (`check`), cleans up, and raises RunCancelled. Afterwards the signal is raised again
for the earlier handlers.

What must not be torn (COMMIT, a truncate, a removal, cleaning up) is `uncancellable`.

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
# Ends the watching thread; no signal has this number.
_END = 0

_Handler: TypeAlias = Callable[[int, FrameType | None], object] | int


class Abandonable(Protocol):
    """Something that may wait for others: `abandon` ends its waiting, from any thread."""

    def abandon(self) -> None: ...


class Cancellation:
    """Whether a run is to end."""

    def __init__(self) -> None:
        self.is_requested = False
        self._waiting: WeakSet[Abandonable] = WeakSet()
        # Held while something uncancellable goes on.
        self.lock = threading.RLock()

    def request(self) -> None:
        """Set the flag, and end what waits, as soon as nothing uncancellable goes on."""
        self.is_requested = True
        with self.lock:
            for waiting in list(self._waiting):
                waiting.abandon()

    def check(self) -> None:
        """Raise RunCancelled if the run is to end."""
        if self.is_requested:
            raise RunCancelled

    def covers(self, waiting: Abandonable) -> None:
        """Abandon `waiting` when the run is to end; now, if it already is."""
        with self.lock:
            self._waiting.add(waiting)
            if self.is_requested:
                waiting.abandon()


# Nothing listens yet, so nothing sets it.
_current = Cancellation()
_last_signal: int | None = None


def check() -> None:
    """Raise RunCancelled if the run is to end."""
    _current.check()


def covers(waiting: Abandonable) -> None:
    """Abandon `waiting` when the run is to end."""
    _current.covers(waiting)


def is_requested() -> bool:
    return _current.is_requested


def last_signal() -> str | None:
    """The name of the last signal that was received while listening."""
    return None if _last_signal is None else signal.Signals(_last_signal).name


def as_run_error(cause: BaseException) -> BackupError:
    """What ended a run. An error of a driver follows from a cancellation, if one is requested."""
    if is_requested() and not isinstance(cause, BackupError):
        return RunCancelled()
    return as_backup_error(cause)


@contextlib.contextmanager
def uncancellable(*, unless_requested: bool = False) -> Iterator[None]:
    """Finish the block whatever signal comes; it takes effect afterwards.

    With `unless_requested` the block is not begun, and RunCancelled raised, if the run is to end.
    """
    global _current
    outer = _current
    with outer.lock:
        if unless_requested:
            outer.check()
        _current = Cancellation()
        try:
            yield
        finally:
            _current = outer


@contextlib.contextmanager
def listening() -> Iterator[Cancellation]:
    """Let signals cancel the block. Only the main thread gets signals."""
    global _current
    outer, _current = _current, Cancellation()
    try:
        with deferred_signals(_current):
            yield _current
    finally:
        _current = outer


@contextlib.contextmanager
def deferred_signals(cancellation: Cancellation | None = None) -> Iterator[None]:
    """Keep signals from the block, and raise the last one after it, for the earlier handlers.

    A signal requests `cancellation`, at once and in another thread: this one may be waiting in C
    code, and Python runs handlers only when that returns.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    cancelling = cancellation or Cancellation()
    received: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        global _last_signal
        _last_signal = number
        received.append(number)
        cancelling.is_requested = True  # No more: a handler must not take a lock.

    earlier: dict[int, _Handler] = {}
    reader, writer = socket.socketpair()
    try:
        with reader, writer:
            writer.setblocking(False)
            watch = threading.Thread(
                target=_watch,
                args=(reader, cancelling),
                name="vector-backup-signals",
                daemon=True,
            )
            watch.start()
            earlier_fd = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
            try:
                for number in _SIGNALS:
                    handler = signal.getsignal(number)
                    # What is ignored stays ignored.
                    if handler is not None and handler is not signal.SIG_IGN:
                        earlier[number] = handler
                        signal.signal(number, note)
                yield
            finally:
                signal.set_wakeup_fd(earlier_fd)
                writer.setblocking(True)
                writer.send(bytes([_END]))
                watch.join()
                _restore_handlers(earlier)
    finally:
        if received:
            signal.raise_signal(received[-1])


def _restore_handlers(earlier: dict[int, _Handler]) -> None:
    """All of them, though one that is restored may raise at once."""
    try:
        for number in list(earlier):
            signal.signal(number, earlier[number])
            del earlier[number]
    finally:
        if earlier:
            _restore_handlers(earlier)


def _watch(reader: socket.socket, cancellation: Cancellation) -> None:
    while (numbers := reader.recv(64)) and numbers[-1] != _END:
        if any(number in _SIGNALS for number in numbers):
            cancellation.request()
