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
_WORTH_A_VIEW = 2048


@dataclass(frozen=True)
class RowBlock:
    """Whole rows: their bytes, their count, the sum modulo 2^128 of their xxh3-128."""

    data: bytes
    rows: int
    digest: int


class BlockBuilder:
    """Gathers CSV records and hands on a block whenever enough bytes are there.

    `write` takes one record with its line end. It runs once a row and is the only Python that
    does, in several threads that share one interpreter: hence a closure over two variables, and
    everything that can wait until the block is full waits (rows of 30 bytes went through twice as
    fast so, by two workers, as with a digest in each call).
    """

    write: Callable[[bytes], None]

    def __init__(self, emit: Callable[[RowBlock], None]) -> None:
        self._emit = emit
        self._records: list[bytes] = []
        self.rows = 0
        self.write = self._gatherer()

    def _gatherer(self) -> Callable[[bytes], None]:
        append, size = self._records.append, 0

        def write(record: bytes, /) -> None:
            nonlocal size
            append(record)
            size += len(record) + _RECORD_OVERHEAD
            if size >= BLOCK_BYTES:
                size = 0
                self.flush()

        return write

    def flush(self) -> None:
        """Hand on what is gathered, if anything."""
        if not self._records:
            return
        data = b"".join(self._records)
        block = RowBlock(data, len(self._records), _digest(self._records, len(data)))
        self._records.clear()
        self.rows += block.rows
        self._emit(block)


def _digest(records: list[bytes], size: int) -> int:
    """Of the records without their line ends: the digest is of rows, not of their file."""
    bare: list[bytes] | list[memoryview]
    # A slice copies; a view costs a little more than a small copy.
    if size < _WORTH_A_VIEW * len(records):
        bare = [record[:-1] for record in records]
    else:
        bare = [memoryview(record)[:-1] for record in records]
    return sum(map(xxhash.xxh3_128_intdigest, bare)) % DIGEST_MODULUS
