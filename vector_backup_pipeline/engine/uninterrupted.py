"""Work that must reach its end once begun, whatever signal comes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

_T = TypeVar("_T")


def uninterrupted(action: Callable[[], _T]) -> _T:
    """Run `action` to its end; an interrupt that comes meanwhile is raised after it.

    Python raises a signal's exception in the main thread, between any two instructions: also
    between a COMMIT and the line that notes it. A thread of its own sees none.
    """
    outcome: Future[_T] = Future()
    thread = threading.Thread(target=_settle, args=(outcome, action), name="vector-backup-commit")
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


def _settle(outcome: Future[_T], action: Callable[[], _T]) -> None:
    if not outcome.set_running_or_notify_cancel():
        return
    try:
        outcome.set_result(action())
    except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
        outcome.set_exception(error)
