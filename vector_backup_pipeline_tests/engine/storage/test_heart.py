"""The heartbeat of a run's marker."""

import threading

import pytest

from vector_backup_pipeline.engine.storage import heart
from vector_backup_pipeline.engine.storage.heart import Heart


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heart, "HEARTBEAT_SECONDS", 0.01)


def test_a_defect_of_a_beat_is_told_and_ends_neither_the_heart_nor_its_owner(
    caplog: pytest.LogCaptureFixture,
) -> None:
    beaten = threading.Event()
    defects = [MemoryError("no room"), MemoryError("no room")]

    def beat() -> bool:
        if defects:
            raise defects.pop()
        beaten.set()
        return True

    beating = Heart(beat)
    beating.start()
    assert beaten.wait(20)
    beating.stop()
    assert caplog.text.count("MemoryError: no room") == 2


def test_it_stops_when_a_beat_says_so() -> None:
    beats: list[int] = []

    def beat() -> bool:
        beats.append(1)
        return len(beats) < 3

    beating = Heart(beat)
    beating.start()
    beating._beating.join(20)
    assert not beating._beating.is_alive()
    beating.stop()
    assert len(beats) == 3


def test_one_that_was_never_started_stops_at_once_and_beats_no_more() -> None:
    beats: list[int] = []
    beating = Heart(lambda: not beats.append(1))  # type: ignore[func-returns-value]
    beating.stop()
    beating.start()
    beating._beating.join(20)
    assert beats == []
