"""Items on their way from some threads to another."""

from __future__ import annotations

import contextlib
import queue
from typing import Generic, TypeVar

from vector_backup_pipeline.engine.background import Latch

_T = TypeVar("_T")

# How often who waits looks whether it still should.
_LOOK_EVERY_SECONDS = 0.1


class Handover(Generic[_T]):
    """A queue with little room, until `closed` is set: then nobody takes any more.

    Of two endless queues in C, one for items and one for the room that is left: an interrupt can
    tear a bounded queue of Python's apart (see engine.background).
    """

    def __init__(self, room: int, closed: Latch) -> None:
        self._items: queue.SimpleQueue[_T] = queue.SimpleQueue()
        self._room: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(room):
            self._room.put(None)
        self._closed = closed

    def give(self, item: _T) -> bool:
        """Hand `item` over, as soon as there is room; False if nobody takes any more."""
        while not self._closed.is_set():
            with contextlib.suppress(queue.Empty):
                self._room.get(timeout=_LOOK_EVERY_SECONDS)
                self._items.put(item)
                return True
        return False

    def give_at_once(self, item: _T) -> None:
        """Hand `item` over, room or not."""
        self._items.put(item)

    def take(self) -> _T:
        """The next item, once there is one."""
        while True:
            with contextlib.suppress(queue.Empty):
                item = self._items.get(timeout=_LOOK_EVERY_SECONDS)
                self._room.put(None)
                return item
