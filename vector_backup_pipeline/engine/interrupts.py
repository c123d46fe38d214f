"""Work in a thread of its own, where no signal's exception is raised, while the caller's waits.

Python raises a signal's exception in the main thread, between any two instructions, and only once
the C code that runs there returns. So work that must reach its end is not safe there, and work that
blocks in C can't be ended there.

An exception that is raised while a `threading.Condition` is entered leaves its lock held for ever.
Futures, events, bounded queues and `Thread.start` have one; what the main thread shares with others
is made of bare locks here.
"""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

_T = TypeVar("_T")

# A signal that comes in the instant before a thread begins to wait does not end that wait.
_LOOK_EVERY_SECONDS = 0.5


def uninterrupted(action: Callable[[], _T]) -> _T:
    """Run `action` to its end; an interrupt that comes meanwhile is raised after it.

    For what must not be torn apart, such as a COMMIT and the line that notes it.
    """
    return interruptible(action, cancel=lambda: None)


def interruptible(action: Callable[[], _T], cancel: Callable[[], None]) -> _T:
    """Run `action`; an interrupt has `cancel` called until the action ends, and is raised then.

    For statements that wait for a lock or count every row. `cancel` may be called from here at any
    moment, also between two statements, where it cancels nothing: hence again and again.
    """
    work = Work(action, "vector-backup-work")
    interrupt: BaseException | None = None
    try:
        work.start()
    except BaseException as error:
        if work.call_off():
            raise
        interrupt = error
    while True:
        # Around the loop: looking whether it is done is Python too, and can be interrupted.
        try:
            while not work.wait(_LOOK_EVERY_SECONDS if interrupt is None else 0):
                if interrupt is not None:
                    cancel()
                    work.wait(_LOOK_EVERY_SECONDS)
            break
        except BaseException as error:  # noqa: BLE001 - raised below, when the work is done
            interrupt = error
    if interrupt is not None:
        raise interrupt
    return work.outcome()


def insist(action: Callable[[], None]) -> None:
    """Run `action` to its end in this thread, which does it again from its beginning after an
    interrupt; that is raised then."""
    interrupt: BaseException | None = None
    while True:
        try:
            action()
            break
        except Exception:
            raise
        except BaseException as error:  # noqa: BLE001 - raised below, when it is done
            interrupt = error
    if interrupt is not None:
        raise interrupt


class Latch:
    """Set once, by one thread; any number may wait for that."""

    def __init__(self) -> None:
        self._is_set = False
        self._unset = _thread.allocate_lock()
        self._unset.acquire()

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        if not self._is_set:
            self._is_set = True
            self._unset.release()

    def wait(self, seconds: float) -> bool:
        """Until it is set, or for some seconds; whether it is."""
        if self._unset.acquire(timeout=seconds):
            self._unset.release()
        return self._is_set


class Work(Generic[_T]):
    """An action in a thread, which does not keep the process from ending."""

    def __init__(self, action: Callable[[], _T], name: str) -> None:
        self._action = action
        self._name = name
        self._begun = _thread.allocate_lock()
        self._launched = Latch()
        self._done = Latch()
        self._refusal: BaseException | None = None
        self._error: BaseException | None = None
        self._result: _T

    def start(self) -> None:
        """Begin, or raise why no thread is to be had."""
        _thread.start_new_thread(self._launch, ())
        while not self._launched.wait(_LOOK_EVERY_SECONDS):
            pass
        if self._refusal is not None:
            raise self._refusal

    def call_off(self) -> bool:
        """True: it had not begun, and will not."""
        was_in_time = self._begun.acquire(blocking=False)
        if was_in_time:
            self._done.set()
        return was_in_time

    def wait(self, seconds: float) -> bool:
        """Until it is done or called off, or for some seconds; whether it is."""
        return self._done.wait(seconds)

    def outcome(self) -> _T:
        """Its result when it is done, or raises its error."""
        while not self.wait(_LOOK_EVERY_SECONDS):
            pass
        if self._error is not None:
            raise self._error
        return self._result

    def _launch(self) -> None:
        """In a thread of no importance, since `Thread.start` has a Condition too."""
        try:
            threading.Thread(target=self._run, name=self._name, daemon=True).start()
        except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
            self._refusal = error
        finally:
            self._launched.set()

    def _run(self) -> None:
        if not self._begun.acquire(blocking=False):
            return
        try:
            self._result = self._action()
        except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
            self._error = error
        finally:
            self._done.set()
