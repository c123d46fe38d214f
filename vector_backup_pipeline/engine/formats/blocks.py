"""Rows gathered into blocks, each block whole rows with their count and digest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import xxhash

from vector_backup_pipeline.engine.formats.row_formats import CSV, RowFormat

# A block stays in a core's cache between the worker that makes it and the writer that hashes and
# stores it: 1 MiB was a tenth faster here than 4 MiB, and memory is a few blocks a worker.
BLOCK_BYTES = 1 << 20
DIGEST_MODULUS = 1 << 128
# What a small `bytes` costs beside its content: else a table of one-digit rows would gather a
# million objects for a block.
_MESSAGE_OVERHEAD = 48
_WORTH_A_VIEW = 2048


@dataclass(frozen=True)
class RowBlock:
    """Whole rows: their bytes, their count, the sum modulo 2^128 of their xxh3-128."""

    data: bytes
    rows: int
    digest: int


class BlockBuilder:
    """Gathers the messages of a COPY and hands on a block whenever enough bytes are there.

    `write` takes one message: a row, with its line end if it has one. It runs once a row and is the
    only Python that does, in several threads that share one interpreter: hence a closure over two
    variables, and everything that can wait until the block is full waits (rows of 30 bytes went
    through twice as fast so, by two workers, as with a digest in each call).
    """

    write: Callable[[bytes], None]

    def __init__(self, emit: Callable[[RowBlock], None], form: RowFormat = CSV) -> None:
        self._emit = emit
        self._form = form
        self._messages: list[bytes] = []
        self.rows = 0
        self.can_end = True
        self.write = self._gatherer()

    def _gatherer(self) -> Callable[[bytes], None]:
        append, size = self._messages.append, 0

        def write(message: bytes, /) -> None:
            nonlocal size
            append(message)
            size += len(message) + _MESSAGE_OVERHEAD
            if size >= BLOCK_BYTES:
                size = 0
                self.flush()

        return write

    def flush(self) -> None:
        """Hand on what is gathered, if anything."""
        if not self._messages:
            return
        rows, self.can_end = self._form.rows(self._messages)
        if rows:
            data = b"".join(rows)
            block = RowBlock(data, len(rows), _digest(rows, len(data), self._form.line_end))
            self.rows += block.rows
            self._emit(block)
        self._messages.clear()


def digest_of(rows: Iterable[bytes | memoryview]) -> int:
    """The sum modulo 2^128 of the xxh3-128 of rows that have no line ends."""
    return sum(map(xxhash.xxh3_128_intdigest, rows)) % DIGEST_MODULUS


def _digest(rows: list[bytes], size: int, line_end: int) -> int:
    """Of the rows without their line ends: the digest is of rows, not of their file."""
    if not line_end:
        return digest_of(rows)
    # A slice copies; a view costs a little more than a small copy.
    if size < _WORTH_A_VIEW * len(rows):
        return digest_of([row[:-line_end] for row in rows])
    return digest_of([memoryview(row)[:-line_end] for row in rows])
