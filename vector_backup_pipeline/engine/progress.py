"""How far an export or a load is, in the terms people ask: how much, how fast, how long still."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """A moment of an export or a load. `percent` and `seconds_left` are None while nothing tells
    them."""

    table: str
    rows: int
    bytes: int
    seconds: float
    percent: float | None

    @property
    def rows_per_second(self) -> float:
        return self.rows / self.seconds if self.seconds > 0 else 0.0

    @property
    def megabytes_per_second(self) -> float:
        return self.bytes / 1e6 / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        if not self.percent:
            return None
        return self.seconds * (100 - self.percent) / self.percent


ProgressListener = Callable[[Progress], None]


class ProgressMeter:
    """Counts what was written; tells `listener` after every block.

    Percent goes by blocks read, when a table has ranges (a table that was never analysed has no
    estimate), else by the planner's estimate of rows. It stays below 100 until the end.
    """

    def __init__(
        self,
        table: str,
        blocks: int,
        ranges: int,
        estimated_rows: int | None,
        listener: ProgressListener,
    ) -> None:
        self._table = table
        self._listener = listener
        self._blocks = blocks
        self._by_blocks = ranges > 1
        self._estimated_rows = estimated_rows
        self._blocks_done = 0
        self._rows = 0
        self._bytes = 0
        self._started = time.monotonic()

    def range_done(self, blocks: int) -> None:
        self._blocks_done += blocks

    def wrote(self, rows: int, size: int) -> None:
        self._rows += rows
        self._bytes += size
        self._listener(self._now(self._percent()))

    def finish(self) -> None:
        self._listener(self._now(100.0))

    def _now(self, percent: float | None) -> Progress:
        seconds = time.monotonic() - self._started
        return Progress(self._table, self._rows, self._bytes, seconds, percent)

    def _percent(self) -> float | None:
        if self._by_blocks:
            return min(99.9, 100 * self._blocks_done / max(1, self._blocks))
        if self._estimated_rows:
            return min(99.9, 100 * self._rows / self._estimated_rows)
        return None


class LoadMeter:
    """Counts what was sent of a file whose size is known; tells `listener` after every block."""

    def __init__(self, table: str, size: int, listener: ProgressListener) -> None:
        self._table = table
        self._size = size
        self._listener = listener
        self._rows = 0
        self._bytes = 0
        self._started = time.monotonic()

    def sent(self, rows: int, size: int) -> None:
        self._rows += rows
        self._bytes += size
        self._tell(min(99.9, 100 * self._bytes / max(1, self._size)))

    def finish(self, rows: int) -> None:
        """`rows` as the server has counted them."""
        self._rows = rows
        self._tell(100.0)

    def _tell(self, percent: float) -> None:
        seconds = time.monotonic() - self._started
        self._listener(Progress(self._table, self._rows, self._bytes, seconds, percent))


def progress_line(moment: Progress) -> str:
    """`50000 rows, 12.3%, 15000 rows/s, 230.1 MB/s, 21 s left`."""
    parts = [f"{moment.rows} rows"]
    if moment.percent is not None:
        parts.append(f"{moment.percent:.1f}%")
    parts.append(f"{moment.rows_per_second:.0f} rows/s")
    parts.append(f"{moment.megabytes_per_second:.1f} MB/s")
    if moment.seconds_left is not None:
        parts.append(f"{moment.seconds_left:.0f} s left")
    return ", ".join(parts)
