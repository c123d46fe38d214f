"""Statements that may take long, in a way that a cancelled run need not wait for."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

import psycopg2

from vector_backup_pipeline.engine.postgres.connection import Connection

_T = TypeVar("_T")

_CANCEL_EVERY_SECONDS = 0.5


def interruptible(connection: Connection, action: Callable[[], _T]) -> _T:
    """Run `action`, which uses `connection`; an interrupt cancels its statements and is raised.

    Python raises a signal's exception in the main thread only once the C code there returns, and
    psycopg2 returns when the server answers: after a lock's time-out, or a count of all rows. So
    the statements run in a thread of their own while the caller's waits where it can be reached.
    """
    outcome: Future[_T] = Future()
    thread = threading.Thread(target=_settle, args=(outcome, action), name="vector-backup-query")
    thread.start()
    try:
        wait([outcome])
    except BaseException:
        # Again and again: a cancel that arrives between two statements cancels nothing.
        while not outcome.done():
            with contextlib.suppress(psycopg2.Error):
                connection.cancel()
            wait([outcome], timeout=_CANCEL_EVERY_SECONDS)
        raise
    return outcome.result()


def _settle(outcome: Future[_T], action: Callable[[], _T]) -> None:
    try:
        outcome.set_result(action())
    except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
        outcome.set_exception(error)
