"""Work in a thread of its own, where no signal's exception is raised, while the caller's waits.

Python raises a signal's exception in the main thread, between any two instructions, and only once
the C code that runs there returns. So work that must reach its end is not safe there, and work that
blocks in C can't be ended there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TypeVar

from vector_backup_pipeline.engine.background import LOOK_EVERY_SECONDS, Work

_T = TypeVar("_T")

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
        while not work.wait(0 if is_interrupted else LOOK_EVERY_SECONDS):
            if is_interrupted:
                with contextlib.suppress(Exception):  # It is sent again.
                    cancel()
                work.wait(LOOK_EVERY_SECONDS)

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
