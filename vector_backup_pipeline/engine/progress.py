"""The progress of an export or a load: rows, speed and time left."""

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """The progress of an export or a load at one moment. `percent` and `seconds_left` are None
    while unknown."""

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
    """Counts rows and bytes; calls `listener` after every block.

    Percent is of `total`, in the caller's unit, by what `advance` has counted; None if the total is
    unknown. It stays below 100 until the end.
    """

    def __init__(self, table: str, total: int | None, listener: ProgressListener) -> None:
        self._table = table
        self._total = total
        self._listener = listener
        self._done = 0
        self._rows = 0
        self._bytes = 0
        self._started = time.monotonic()

    def advance(self, done: int) -> None:
        self._done += done

    def add(self, rows: int, size: int) -> None:
        self._rows += rows
        self._bytes += size
        self._report(min(99.9, 100 * self._done / self._total) if self._total else None)

    def finish(self, rows: int | None = None) -> None:
        """`rows` if the server has counted them."""
        self._rows = self._rows if rows is None else rows
        self._report(100.0)

    def _report(self, percent: float | None) -> None:
        seconds = time.monotonic() - self._started
        self._listener(Progress(self._table, self._rows, self._bytes, seconds, percent))


def progress_line(moment: Progress) -> str:
    """`50000 rows, 12.3%, 15000 rows/s, 230.1 MB/s, 21 s left`."""
    percent = "" if moment.percent is None else f"{moment.percent:.1f}%, "
    left = "" if moment.seconds_left is None else f", {moment.seconds_left:.0f} s left"
    speed = f"{moment.rows_per_second:.0f} rows/s, {moment.megabytes_per_second:.1f} MB/s"
    return f"{moment.rows} rows, {percent}{speed}{left}"
