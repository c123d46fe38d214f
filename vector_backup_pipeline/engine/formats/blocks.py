"""Rows gathered into blocks, each block whole rows with their count and digest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import xxhash

# A block stays in a core's cache between the worker that makes it and the writer that hashes and
# stores it: 1 MiB was a tenth faster here than 4 MiB, and memory is a few blocks a worker.
BLOCK_BYTES = 1 << 20
DIGEST_MODULUS = 1 << 128
# What a small `bytes` costs beside its content: else a table of one-digit rows would gather a
# million objects for a block.
_RECORD_OVERHEAD = 48


@dataclass(frozen=True)
class RowBlock:
    """Whole rows: their bytes, their count, the sum modulo 2^128 of their xxh3-128."""

    data: bytes
    rows: int
    digest: int


class BlockBuilder:
    """Gathers CSV records and hands on a block whenever enough bytes are there.

    `write` runs once a row and is the only Python that does.
    """

    __slots__ = ("_digest", "_emit", "_records", "_size", "rows")

    def __init__(self, emit: Callable[[RowBlock], None]) -> None:
        self._emit = emit
        self._records: list[bytes] = []
        self._size = 0
        self._digest = 0
        self.rows = 0

    def write(self, record: bytes, /) -> None:
        self._records.append(record)
        self._size += len(record) + _RECORD_OVERHEAD
        # Without its line end, so that the digest is of the record and not of its file.
        self._digest += xxhash.xxh3_128_intdigest(memoryview(record)[:-1])
        if self._size >= BLOCK_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand on what is gathered, if anything."""
        if not self._records:
            return
        block = RowBlock(b"".join(self._records), len(self._records), self._digest % DIGEST_MODULUS)
        self._records, self._size, self._digest = [], 0, 0
        self.rows += block.rows
        self._emit(block)
