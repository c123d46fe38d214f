"""Items between threads, a few at a time."""

import threading
import time

from vector_backup_pipeline.engine.background import Latch, Work
from vector_backup_pipeline.engine.handover import Handover


def test_items_come_in_order_and_never_more_than_there_is_room_for() -> None:
    handover: Handover[int] = Handover(2, Latch())
    given: list[int] = []

    def give() -> None:
        for each in range(5):
            assert handover.give(each)
            given.append(each)

    giving = Work(give, "test")
    giving.start()
    for taken in range(5):
        while len(given) < min(taken + 2, 5):
            time.sleep(0.001)
        time.sleep(0.01)
        assert len(given) <= taken + 2
        assert handover.take() == taken
    giving.outcome()


def test_what_is_given_at_once_needs_no_room() -> None:
    handover: Handover[str] = Handover(1, Latch())
    assert handover.give("first")
    handover.give_at_once("second")
    assert (handover.take(), handover.take()) == ("first", "second")


def test_nobody_waits_for_room_once_it_is_closed() -> None:
    closed = Latch()
    handover: Handover[int] = Handover(1, closed)
    assert handover.give(1)
    closing = threading.Timer(0.05, closed.set)
    closing.start()
    assert not handover.give(2)
    assert not handover.give(3)
    closing.join()
