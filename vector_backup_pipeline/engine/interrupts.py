"""Work in a thread of its own, where no signal's exception is raised, while the caller's waits.

Python raises a signal's exception in the main thread, between any two instructions, and only once
the C code that runs there returns. So work that must reach its end is not safe there, and work that
blocks in C can't be ended there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

_T = TypeVar("_T")

_CANCEL_EVERY_SECONDS = 0.5


def uninterrupted(action: Callable[[], _T]) -> _T:
    """Run `action` to its end; an interrupt that comes meanwhile is raised after it.

    For what must not be torn apart, such as a COMMIT and the line that notes it.
    """
    outcome: Future[_T] = Future()
    thread = threading.Thread(
        target=_settle, args=(outcome, action), name="vector-backup-uninterrupted"
    )
    interrupt: BaseException | None = None
    try:
        thread.start()
    except BaseException as error:
        if outcome.cancel():
            raise  # It has not begun, and will not.
        interrupt = error
    # Not by the thread: one whose join() was interrupted counts as ended up to Python 3.12, though
    # it still runs.
    while not outcome.done():
        try:
            wait([outcome])
        except BaseException as error:  # noqa: BLE001 - raised below, when the work is done
            interrupt = error
    if interrupt is not None:
        raise interrupt
    return outcome.result()


def interruptible(action: Callable[[], _T], cancel: Callable[[], None]) -> _T:
    """Run `action`; an interrupt has `cancel` called until the action ends, and is raised then.

    For statements that wait for a lock or count every row. `cancel` may be called from here at any
    moment, also between two statements, where it cancels nothing: hence again and again.
    """
    outcome: Future[_T] = Future()
    threading.Thread(
        target=_settle, args=(outcome, action), name="vector-backup-interruptible"
    ).start()
    try:
        wait([outcome])
    except BaseException:
        while not outcome.done():
            cancel()
            wait([outcome], timeout=_CANCEL_EVERY_SECONDS)
        raise
    return outcome.result()


def _settle(outcome: Future[_T], action: Callable[[], _T]) -> None:
    if not outcome.set_running_or_notify_cancel():
        return
    try:
        outcome.set_result(action())
    except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
        outcome.set_exception(error)
