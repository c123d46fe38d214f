"""Cancellation of a run by a signal; docs/architecture.md shows how it works.

Signals belong to the process, and so does the flag: one process, one run.
"""

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
# Stops the thread that reads signal numbers; no signal has this number.
_END = 0

_Handler: TypeAlias = Callable[[int, FrameType | None], object] | int


class Abandonable(Protocol):
    """An object that may block, such as a connection. `abandon` unblocks it, from any thread."""

    def abandon(self) -> None: ...


class Cancellation:
    """The cancellation flag, and the objects to abandon when it is set."""

    def __init__(self) -> None:
        self.is_requested = False
        self.waiting: WeakSet[Abandonable] = WeakSet()
        # Held during an uncancellable block.
        self.lock = threading.RLock()

    def request(self) -> None:
        """Set the flag, and abandon what blocks, after any uncancellable block."""
        self.is_requested = True
        with self.lock:
            for waiting in list(self.waiting):
                waiting.abandon()


# Until `listening`, no signal sets this flag.
_current = Cancellation()
_last_signal: int | None = None


def check() -> None:
    """Raise RunCancelled if cancellation was requested."""
    if _current.is_requested:
        raise RunCancelled


def covers(waiting: Abandonable) -> None:
    """Abandon `waiting` when cancellation is requested; at once if it already was."""
    current = _current
    with current.lock:
        current.waiting.add(waiting)
        if current.is_requested:
            waiting.abandon()


def is_requested() -> bool:
    return _current.is_requested


def last_signal() -> str | None:
    """The name of the last signal that was received while listening."""
    return None if _last_signal is None else signal.Signals(_last_signal).name


def as_run_error(cause: BaseException) -> BackupError:
    """The error that ended a run. If cancellation was requested, driver errors result from it."""
    if is_requested() and not isinstance(cause, BackupError):
        return RunCancelled()
    return as_backup_error(cause)


@contextlib.contextmanager
def uncancellable(*, unless_requested: bool = False) -> Iterator[None]:
    """Delay cancellation until the end of the block.

    With `unless_requested`, raise RunCancelled instead of starting the block if cancellation was
    requested.
    """
    global _current
    outer = _current
    with outer.lock:
        if unless_requested:
            check()
        _current = Cancellation()
        try:
            yield
        finally:
            _current = outer


@contextlib.contextmanager
def listening() -> Iterator[Cancellation]:
    """Let signals cancel the block. Python handles signals only in the main thread."""
    global _current
    outer, _current = _current, Cancellation()
    try:
        with deferred_signals(_current):
            yield _current
    finally:
        _current = outer


@contextlib.contextmanager
def deferred_signals(cancellation: Cancellation | None = None) -> Iterator[None]:
    """Defer signals to the end of the block, and then raise the last one for the previous handlers.

    A signal requests `cancellation` at once, from another thread: this thread may be blocked in C
    code, and Python runs signal handlers only after that returns.
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
        cancelling.is_requested = True  # Nothing else: a signal handler must not take a lock.

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
                    # Ignored signals remain ignored.
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
    """Restore all handlers, even if a restored one raises an exception at once."""
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
