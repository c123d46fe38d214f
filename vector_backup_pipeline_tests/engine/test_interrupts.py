"""Work that has begun is done before an interrupt is raised."""

import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import pytest

from vector_backup_pipeline.engine.interrupts import uninterrupted


def test_an_interrupt_comes_after_the_work() -> None:
    done = []

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def work() -> None:
        # The handler runs in the main thread, at once or, if that was just about to wait, later.
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(0.2)
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


def test_an_interrupt_at_any_instruction_of_the_wait_leaves_no_lock_held() -> None:
    for instruction in itertools.count(1):
        raised = threading.Event()
        told: list[str] = []

        def work(raised: threading.Event = raised, told: list[str] = told) -> None:
            told.append("begun")
            raised.wait(0.02)
            told.append("done")

        with suppress(KeyboardInterrupt), _interrupt_at(instruction, raised):
            uninterrupted(work)

        # Before it has begun it is called off.
        assert told in ([], ["begun", "done"])
        if not raised.is_set():
            assert instruction > 20
            return


@contextmanager
def _interrupt_at(instruction: int, raised: threading.Event) -> Iterator[None]:
    """Raises at an instruction of what `uninterrupted` calls, in this thread."""
    count = itertools.count(1)

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code is uninterrupted.__code__ or frame.f_code.co_name == "__init__":
            return None
        if event == "call" and frame.f_code.co_name != "outcome":
            frame.f_trace_opcodes = True
        elif event == "opcode" and next(count) == instruction:
            raised.set()
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)
