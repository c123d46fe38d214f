"""Work that has begun is done before an interrupt is raised."""

import hashlib
import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import pytest

from vector_backup_pipeline.engine.background import Latch, Work
from vector_backup_pipeline.engine.interrupts import (
    _SIGNALS_AT_ONCE,
    _Insistence,
    insist,
    interruptible,
    uninterrupted,
)


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

        assert told == ["begun", "done"]
        if not raised.is_set():
            assert instruction > 20
            return


# In these alone nothing goes on, or no more, that an interrupt could leave behind.
_NOT_AROUND_THE_WORK = {
    each.__code__
    for each in (
        *(uninterrupted, interruptible, Latch.__init__, Work.__init__, Work.outcome),
        *(_Insistence.__init__, _Insistence.run),
    )
}


# Else of whatever runs in between, such as a callback of the garbage collector.
_WAITING_CODE = (
    *("engine/interrupts.py", "engine/background.py"),
    *("/threading.py", "concurrent/futures/_base.py"),
)


@contextmanager
def _interrupt_at(instruction: int, raised: threading.Event) -> Iterator[None]:
    """Raises at an instruction of what `uninterrupted` calls, in this thread."""
    count = itertools.count(1)

    def trace(frame: FrameType, event: str, _: object) -> Any:
        code = frame.f_code
        if code in _NOT_AROUND_THE_WORK or not code.co_filename.endswith(_WAITING_CODE):
            return None
        if frame.f_locals.get("levels") == _SIGNALS_AT_ONCE:
            return None  # The outermost level alone has no other around it.
        if event == "call":
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


def test_what_is_insisted_on_is_done_again_until_no_interrupt_comes() -> None:
    interrupts = [KeyboardInterrupt("first"), KeyboardInterrupt("second")]
    begun: list[int] = []

    def action() -> None:
        begun.append(1)
        if interrupts:
            raise interrupts.pop(0)

    with pytest.raises(KeyboardInterrupt, match="second"):
        insist(action)
    assert len(begun) == 3


def test_an_error_of_what_is_insisted_on_is_raised_at_once() -> None:
    def action() -> None:
        raise LookupError("its own")

    with pytest.raises(LookupError, match="its own"):
        insist(action)


def test_a_thread_that_is_not_to_be_had_is_told_and_nothing_was_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[int] = []

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="can't start"):
        uninterrupted(lambda: done.append(1))
    assert done == []


class _Interrupt(BaseException):
    """No KeyboardInterrupt, which would end all tests if it escaped."""


@pytest.fixture
def three_signals() -> Iterator[Callable[[], None]]:
    """Sends this process three at once, while the main thread is in C, where it sees none."""
    numbers = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM)

    def interrupt(*_: object) -> None:
        raise _Interrupt

    def send() -> None:
        for number in numbers:
            os.kill(os.getpid(), number)

    before = [signal.signal(number, interrupt) for number in numbers]
    yield lambda: threading.Timer(0.05, send).start()
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def _stay_in_c() -> None:
    hashlib.pbkdf2_hmac("sha256", b"", b"", 400_000)


def test_several_signals_at_once_tear_nothing_that_is_insisted_on(
    three_signals: Callable[[], None],
) -> None:
    done: list[int] = []

    def action() -> None:
        _stay_in_c()
        done.append(1)

    three_signals()
    with pytest.raises(_Interrupt):
        insist(action)
    assert done


def test_several_signals_at_once_leave_no_work_behind(three_signals: Callable[[], None]) -> None:
    cancelled = threading.Event()
    cancels: list[int] = []
    done: list[int] = []

    def work() -> None:
        cancelled.wait(10)
        time.sleep(0.2)
        done.append(1)

    def cancel() -> None:
        cancels.append(1)
        if len(cancels) == 1:
            three_signals()
            _stay_in_c()
        cancelled.set()

    threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGUSR1]).start()
    with pytest.raises(_Interrupt):
        interruptible(work, cancel)
    assert done == [1]


def test_no_thread_is_made_where_the_end_of_its_weak_references_could_lose_an_interrupt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made_in: list[int] = []
    make = threading.Thread.__init__

    def noted(thread: threading.Thread, *args: Any, **options: Any) -> None:
        made_in.append(threading.get_ident())
        make(thread, *args, **options)

    monkeypatch.setattr(threading.Thread, "__init__", noted)
    assert uninterrupted(lambda: 42) == 42
    assert len(made_in) == 1
    assert made_in != [threading.get_ident()]
