"""Retries end when they can no longer help."""

import time

import pytest

from vector_backup_pipeline.engine import cancellation
from vector_backup_pipeline.engine.errors import RunCancelled
from vector_backup_pipeline.engine.storage.retries import repeated
from vector_backup_pipeline.engine.storage.store import TransientStorageError


def test_a_canceled_run_does_not_wait_for_the_end_of_an_outage() -> None:
    @repeated
    def unreachable(run: cancellation.Cancellation) -> None:
        run.request()
        raise TransientStorageError("The store could not be reached.")

    started = time.monotonic()
    with cancellation.listening() as run, pytest.raises(RunCancelled):
        unreachable(run)
    assert time.monotonic() - started < 5
