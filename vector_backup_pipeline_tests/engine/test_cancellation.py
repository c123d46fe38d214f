"""A signal sets a flag, which the code checks, and is raised again afterwards."""

import hashlib
import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from vector_backup_pipeline.engine.cancellation import (
    as_run_error,
    check,
    covers,
    deferred_signals,
    is_requested,
    listening,
    uncancellable,
)
from vector_backup_pipeline.engine.errors import IntegrityError, RunCancelled
from vector_backup_pipeline_tests.faults.watching import in_background, interrupted

_ALL = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Passed(BaseException):
    """Raised by the earlier handlers. A KeyboardInterrupt would end all tests."""


@pytest.fixture
def passed_on() -> Iterator[list[int]]:
    """The signals that reach the earlier handlers, which raise `_Passed`."""
    passed: list[int] = []

    def handle(number: int, _: object) -> None:
        passed.append(number)
        raise _Passed

    before = {number: signal.signal(number, handle) for number in _ALL}
    yield passed
    for number, handler in before.items():
        signal.signal(number, handler)


class _Waiter:
    def __init__(self) -> None:
        self.ended = threading.Event()

    def abandon(self) -> None:
        self.ended.set()


def _send(*numbers: int) -> None:
    for number in numbers:
        os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", _ALL)
def test_a_signal_is_seen_by_check_and_passed_on_afterwards(
    passed_on: list[int], number: int
) -> None:
    late = _Waiter()
    with interrupted(_Passed):
        _send(number)
        assert passed_on == []
        covers(late)
        assert late.ended.is_set()
        with pytest.raises(RunCancelled):
            check()
    assert passed_on == [number]
    assert not is_requested()


def test_what_waits_is_ended_while_the_main_thread_is_in_c(passed_on: list[int]) -> None:
    waiter = _Waiter()
    ended_at: list[float] = []

    def watch() -> None:
        waiter.ended.wait(20)
        ended_at.append(time.monotonic())

    watching = threading.Thread(target=watch)
    watching.start()
    with interrupted(_Passed):
        covers(waiter)
        timer = threading.Timer(0.05, _send, [signal.SIGTERM])
        timer.start()
        hashlib.pbkdf2_hmac("sha256", b"", b"", 800_000)
        left_c_at = time.monotonic()
        timer.join()
    watching.join()
    assert ended_at[0] < left_c_at


def test_what_is_uncancellable_is_done_before_anything_is_ended(passed_on: list[int]) -> None:
    waiter = _Waiter()
    with interrupted(_Passed):
        covers(waiter)
        with uncancellable():
            _send(*_ALL)
            assert not waiter.ended.wait(0.2)
            check()
            assert not is_requested()
        assert waiter.ended.wait(5)
        with pytest.raises(RunCancelled):
            check()


def test_several_signals_at_once_are_one_and_every_handler_is_back(passed_on: list[int]) -> None:
    handlers = [signal.getsignal(number) for number in _ALL]
    with interrupted(_Passed):
        for _ in range(5):
            _send(*_ALL)
    assert len(passed_on) == 1
    assert [signal.getsignal(number) for number in _ALL] == handlers
    assert signal.set_wakeup_fd(-1) == -1


def test_what_listens_within_passes_it_to_what_listens_around(passed_on: list[int]) -> None:
    with interrupted(_Passed) as outer:
        with listening():
            _send(signal.SIGINT)
        assert passed_on == []
        assert outer.is_requested
    assert passed_on == [signal.SIGINT]


def test_what_is_ignored_stays_ignored(passed_on: list[int]) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with listening():
        _send(signal.SIGHUP)
        check()
    assert passed_on == []


def test_deferred_signals_are_passed_on_and_cancel_nothing(passed_on: list[int]) -> None:
    with pytest.raises(_Passed) as raised, deferred_signals():
        _send(signal.SIGTERM)
        check()
    assert raised.value.__context__ is None
    assert passed_on == [signal.SIGTERM]


def test_an_error_of_the_block_is_raised_as_it_is() -> None:
    with pytest.raises(LookupError, match="its own"), listening():
        raise LookupError("its own")


def test_outside_the_main_thread_nothing_is_listened_to() -> None:
    def run() -> None:
        with listening():
            check()

    with in_background(run):
        pass


def test_a_drivers_error_during_a_cancellation_is_the_cancellation() -> None:
    damaged = IntegrityError("damaged")
    with listening() as cancellation:
        assert as_run_error(OSError("no luck")).error_type == "INTERNAL_ERROR"
        cancellation.request()
        assert as_run_error(OSError("shut down")).error_type == "RUN_CANCELED"
        assert as_run_error(damaged) is damaged
