"""Repeating a request that a passing fault of the network or the store has spoiled.

The driver does not retry small requests: it gives up on some lost connections, and does not say
whether it repeated a write. Only uploads in parts keep the driver's retries.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from vector_backup_pipeline.engine.storage.object_errors import (
    is_transient,
    object_errors,
    store_exceptions,
)

_T = TypeVar("_T")

_log = logging.getLogger(__name__)

# An outage this long is waited out. A wrong endpoint looks the same, so not longer than a person
# waits.
_OUTAGE_SECONDS = 60.0
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 10.0


class Retries:
    """The pauses between the attempts at one request, for a minute from its first failure."""

    def __init__(self) -> None:
        self._deadline: float | None = None
        self._wait = _FIRST_WAIT

    def pause_after(self, error: Exception) -> None:
        """Sleep before the next attempt; raises `error` again if there should be none."""
        now = time.monotonic()
        if self._deadline is None:
            self._deadline = now + _OUTAGE_SECONDS
        if not is_transient(error) or now >= self._deadline:
            raise error
        wait = self._wait * random.uniform(0.5, 1)  # noqa: S311
        self._wait = min(_LONGEST_WAIT, 2 * self._wait)
        # The last attempt is made when the minute is over.
        wait = min(wait, self._deadline - now)
        # The error's text may name the request's credentials.
        _log.warning("A storage request failed (%s); retry in %.1f s", type(error).__name__, wait)
        time.sleep(wait)


def with_retries(action: str, request: Callable[[], _T]) -> _T:
    """What `request` returns, repeated while that may help.

    Raises:
        StorageError: "Could not {action}: …"; a `ResourceNotFound` where there is nothing.
    """
    retries = Retries()
    with object_errors(action):
        while True:
            try:
                return request()
            except store_exceptions() as error:
                retries.pause_after(error)
