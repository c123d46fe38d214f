"""Retries requests after transient errors, and resumes interrupted reads."""

import contextlib
import functools
import logging
import random
import time
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

from vector_backup_pipeline.engine import cancellation
from vector_backup_pipeline.engine.errors import IntegrityError, ResourceNotFound, StorageError
from vector_backup_pipeline.engine.storage.store import Store, StoredFile, TransientStorageError

_P = ParamSpec("_P")
_T = TypeVar("_T")

_log = logging.getLogger(__name__)

# Requests are retried for this time. A wrong endpoint looks the same, so not longer than a
# person waits.
OUTAGE_SECONDS = 60.0
FIRST_WAIT, LONGEST_WAIT = 0.2, 10.0
# A canceled run stops waiting within this time.
_SLICE = 0.25


class _Retries:
    """The pauses between the attempts, for a minute from the first failure."""

    def __init__(self) -> None:
        self._deadline: float | None = None
        self._wait = FIRST_WAIT

    def pause_after(self, error: TransientStorageError) -> None:
        """Sleep before the next attempt, or raise the error if the time is over. Raises
        `RunCancelled` if cancellation was requested."""
        now = time.monotonic()
        if self._deadline is None:
            self._deadline = now + OUTAGE_SECONDS
        if now >= self._deadline:
            raise StorageError(error.summary, error.advice) from error
        # The last attempt is made at the end of the time.
        # Random, so that many clients do not retry at the same moment.
        wait = min(self._wait * random.uniform(0.5, 1), self._deadline - now)  # noqa: S311
        self._wait = min(LONGEST_WAIT, 2 * self._wait)
        _log.warning("%s Retry in %.1f s", error, wait)
        while wait > 0:
            cancellation.check()
            time.sleep(min(wait, _SLICE))
            wait -= _SLICE


def repeated(request: Callable[_P, _T]) -> Callable[_P, _T]:
    """A request that is repeated after a TransientStorageError."""

    @functools.wraps(request)
    def repeating(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        retries = _Retries()
        while True:
            try:
                return request(*args, **kwargs)
            except TransientStorageError as error:
                retries.pause_after(error)

    return repeating


@repeated
def read_small_file(store: Store, path: str) -> tuple[StoredFile, bytes] | None:
    """A file and its content; None if it does not exist."""
    try:
        opened = store.open(path)
        return opened.file, b"".join(opened.chunks)
    except ResourceNotFound:
        return None


def read_chunks(
    store: Store,
    path: str,
    offset: int = 0,
    length: int | None = None,
    version: str | None = None,
) -> Iterator[bytes]:
    """The chunks of a file, continued where a connection was lost. Raises `IntegrityError` if the
    file was replaced meanwhile, or does not have `version`."""
    retries = _Retries()
    while True:
        try:
            opened = store.open(path, offset, length)
            with contextlib.closing(opened.chunks):
                if version not in (None, opened.file.version):
                    raise IntegrityError(
                        f"{store.location(path)} was replaced while it was being read. Something "
                        "else writes there; try again."
                    )
                version = opened.file.version
                available = max(0, opened.file.size - offset)
                length = available if length is None else min(length, available)
                for chunk in opened.chunks:
                    offset, length = offset + len(chunk), length - len(chunk)
                    retries = _Retries()
                    yield chunk
            if length == 0:
                return
            raise TransientStorageError(
                f"Could not read {store.location(path)}: the answer ended early. Try again."
            )
        except TransientStorageError as error:
            if length == 0:
                return
            retries.pause_after(error)
