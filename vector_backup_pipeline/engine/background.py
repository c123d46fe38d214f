"""Threads for the main thread's work, and waiting for them, that no interrupt tears.

Python raises a signal's exception in the main thread, between any two instructions. Raised while a
`threading.Condition` is entered, it leaves that one's lock held for ever. Futures, events, bounded
queues and `Thread.start` have one; here are bare locks.
"""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

_T = TypeVar("_T")

# A signal that comes in the instant before a thread begins to wait does not end that wait.
LOOK_EVERY_SECONDS = 0.5


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

    def wait(self, seconds: float | None = None) -> bool:
        """Until it is set, or for some seconds; whether it is."""
        if seconds is None:
            while not self.wait(LOOK_EVERY_SECONDS):
                pass
        elif not self._is_set and self._unset.acquire(timeout=seconds):
            self._unset.release()
        return self._is_set


class Work(Generic[_T]):
    """An action in a thread, which does not keep the process from ending.

    After an interrupt every method may be called again.
    """

    def __init__(self, action: Callable[[], _T], name: str) -> None:
        self._action = action
        self._name = name
        # Whoever's key is in it first has the action: asked and taken in one call to C.
        self._taken_by: dict[str, object] = {}
        self._done = Latch()
        self._error: BaseException | None = None
        self._result: _T

    @property
    def has_begun(self) -> bool:
        return bool(self._taken_by)

    def start(self) -> None:
        """Begin, unless it has begun; or raise why no thread is to be had."""
        launching = _Launching(self._run, self._name)
        _thread.start_new_thread(launching.run, ())
        launching.check()

    def call_off(self) -> bool:
        """True: it had not begun, and will not."""
        was_in_time = self._taken_by.setdefault("by", self) is self
        if was_in_time:
            self._done.set()
        return was_in_time

    def wait(self, seconds: float | None = None) -> bool:
        """Until it is done or called off, or for some seconds; whether it is."""
        return self._done.wait(seconds)

    def outcome(self) -> _T:
        """Its result when it is done, or raises its error."""
        self.wait()
        if self._error is not None:
            raise self._error
        return self._result

    def _run(self) -> None:
        me = object()
        if self._taken_by.setdefault("by", me) is not me:
            return
        try:
            self._result = self._action()
        except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
            self._error = error
        finally:
            del self._action  # And with it what it holds.
            self._done.set()


class _Launching:
    """Starts a thread from one of no importance, since `Thread.start` has a Condition too."""

    def __init__(self, target: Callable[[], None], name: str) -> None:
        self._target = target
        self._name = name
        self._done = Latch()
        self._refusal: BaseException | None = None

    def run(self) -> None:
        try:
            # Made here, so that it never ends in the main thread: an interrupt that is raised in a
            # callback of its weak references is lost.
            threading.Thread(target=self._target, name=self._name, daemon=True).start()
        except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
            self._refusal = error
        finally:
            self._done.set()

    def check(self) -> None:
        self._done.wait()
        if self._refusal is not None:
            raise self._refusal
