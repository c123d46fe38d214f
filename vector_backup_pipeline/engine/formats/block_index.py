"""Where whole rows begin in a stored file, so that restore and verify can read it in parallel."""

from __future__ import annotations

from typing import NamedTuple

# Fine enough to spread over workers, coarse enough that a terabyte's index is a few MB of JSON.
INDEX_BYTES = 8 << 20


class IndexEntry(NamedTuple):
    """Bytes `offset` to `offset + length` hold `rows` whole rows."""

    offset: int
    length: int
    rows: int


class BlockIndex:
    """Entries of at least `INDEX_BYTES`, but for the last; the header belongs to none."""

    def __init__(self, start: int) -> None:
        self._closed: list[IndexEntry] = []
        self._open = IndexEntry(start, 0, 0)

    def add(self, length: int, rows: int) -> None:
        offset, open_length, open_rows = self._open
        self._open = IndexEntry(offset, open_length + length, open_rows + rows)
        if self._open.length >= INDEX_BYTES:
            self._closed.append(self._open)
            self._open = IndexEntry(offset + self._open.length, 0, 0)

    def entries(self) -> list[IndexEntry]:
        return [*self._closed, self._open] if self._open.length else list(self._closed)
