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
import contextlib
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

_T = TypeVar("_T")

# A signal that comes in the instant before a thread begins to wait does not end that wait.
_LOOK_EVERY_SECONDS = 0.5
# SIGINT, SIGTERM and SIGHUP may come at once.
_SIGNALS_AT_ONCE = 3


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

    def wait(is_interrupted: bool) -> None:
        try:
            if not work.has_begun:
                work.start()
        except Exception:
            # Unless an earlier attempt, before an interrupt, had its thread.
            if work.call_off():
                raise
        while not work.wait(0 if is_interrupted else _LOOK_EVERY_SECONDS):
            if is_interrupted:
                with contextlib.suppress(Exception):  # It is sent again.
                    cancel()
                work.wait(_LOOK_EVERY_SECONDS)

    _Insistence(wait).run()
    return work.outcome()


def insist(action: Callable[[], None]) -> None:
    """Run `action` to its end in this thread, which does it again from its beginning after an
    interrupt; that is raised then."""
    _Insistence(lambda _: action()).run()


class _Insistence:
    """The action is told whether an interrupt has come; the last one is raised."""

    def __init__(self, action: Callable[[bool], None]) -> None:
        self._action = action
        self._interrupt: BaseException | None = None

    def run(self) -> None:
        try:
            self._run(_SIGNALS_AT_ONCE)
        except Exception as error:
            if self._interrupt is not None:
                raise self._interrupt from error
            raise
        if self._interrupt is not None:
            raise self._interrupt

    def _run(self, levels: int) -> None:
        """Each level is the `try` for what is raised between one below and its next attempt."""
        while True:
            try:
                if levels:
                    self._run(levels - 1)
                else:
                    self._action(self._interrupt is not None)
                return
            except Exception:
                raise
            except BaseException as error:  # noqa: BLE001 - raised when the action is done
                self._interrupt = error


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
        if not self._is_set and self._unset.acquire(timeout=seconds):
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
        while not self._done.wait(_LOOK_EVERY_SECONDS):
            pass
        if self._refusal is not None:
            raise self._refusal
