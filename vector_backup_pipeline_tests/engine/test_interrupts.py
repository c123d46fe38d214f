"""Work that has begun is done before an interrupt is raised."""

import os
import signal
import threading

import pytest

from vector_backup_pipeline.engine.interrupts import uninterrupted


def test_an_interrupt_comes_after_the_work() -> None:
    interrupted = threading.Event()
    done = []

    def interrupt(*_: object) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    def work() -> None:
        # The handler runs in the main thread; the work goes on until it has.
        os.kill(os.getpid(), signal.SIGUSR1)
        assert interrupted.wait(10)
        done.append("all of it")

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            uninterrupted(work)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert done == ["all of it"]


def test_the_works_own_error_is_raised_as_it_is() -> None:
    def work() -> None:
        raise LookupError("its own")

    with pytest.raises(LookupError, match="its own"):
        uninterrupted(work)


def test_the_works_result_is_returned() -> None:
    assert uninterrupted(lambda: 42) == 42
