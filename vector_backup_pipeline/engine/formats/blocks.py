"""Blocks of whole rows, with their count and digest, and the index of a file's blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TextIO

import xxhash

from vector_backup_pipeline.engine.formats.row_formats import CSV, RowFormat
from vector_backup_pipeline.engine.manifest import Block

# A block stays in a core's cache between the worker that fills it and the writer that hashes and
# stores it: 1 MiB was a tenth faster than 4 MiB, and the memory is a few blocks per worker.
BLOCK_BYTES = 1 << 20
# Fine enough to spread over workers, coarse enough that a terabyte's index is a few MB of JSON.
INDEX_BYTES = 8 << 20
DIGEST_MODULUS = 1 << 128
# The cost of a small `bytes` beside its content: without it, a table of one-digit rows would gather
# a million objects for a block.
_MESSAGE_OVERHEAD = 48
_WORTH_A_VIEW = 2048


@dataclass(frozen=True)
class RowBlock:
    """Whole rows: their bytes, their count, the sum modulo 2^128 of their xxh3-128."""

    data: bytes
    rows: int
    digest: int


@dataclass(frozen=True)
class Content:
    """Rows and the sum modulo 2^128 of their xxh3-128."""

    rows: int
    digest: int

    def __add__(self, other: Content) -> Content:
        return Content(self.rows + other.rows, (self.digest + other.digest) % DIGEST_MODULUS)

    def __sub__(self, other: Content) -> Content:
        return Content(self.rows - other.rows, (self.digest - other.digest) % DIGEST_MODULUS)


EMPTY = Content(0, 0)


class BlockBuilder:
    """Gathers the messages of a COPY and emits a block when there are enough bytes.

    `write` takes one message: a row, with its line end if it has one. It is the only Python that
    runs once per row, in several threads of one interpreter: hence a closure over two variables,
    and the digest is computed when the block is full (with two workers and rows of 30 bytes, twice
    as fast as in each call).
    """

    write: Callable[[bytes], None]

    def __init__(
        self,
        emit: Callable[[RowBlock], None],
        form: RowFormat = CSV,
        digests: TextIO | None = None,
    ) -> None:
        """With `digests`, each row's digest is written there: 32 hexadecimal digits a line."""
        self._emit = emit
        self._form = form
        self._digests = digests
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
        """Emit the gathered rows, if there are any."""
        if not self._messages:
            return
        rows, self.can_end = self._form.rows(self._messages)
        if rows:
            data = b"".join(rows)
            contents = _without_line_ends(rows, len(data), self._form.line_end)
            block = RowBlock(data, len(rows), self._digest(contents))
            self.rows += block.rows
            self._emit(block)
        self._messages.clear()

    def _digest(self, contents: Sequence[bytes | memoryview]) -> int:
        if self._digests is None:
            return digest_of(contents)
        digests = list(map(xxhash.xxh3_128_intdigest, contents))
        self._digests.writelines(f"{digest:032x}\n" for digest in digests)
        return sum(digests) % DIGEST_MODULUS


def digest_of(rows: Iterable[bytes | memoryview]) -> int:
    """The sum modulo 2^128 of the xxh3-128 of rows without line ends."""
    return sum(map(xxhash.xxh3_128_intdigest, rows)) % DIGEST_MODULUS


def _without_line_ends(rows: list[bytes], size: int, line_end: int) -> Sequence[bytes | memoryview]:
    if not line_end:
        return rows
    # A slice copies; a view costs a little more than a small copy.
    if size < _WORTH_A_VIEW * len(rows):
        return [row[:-line_end] for row in rows]
    return [memoryview(row)[:-line_end] for row in rows]


class BlockIndex:
    """Where whole rows begin in a stored file, so that it can be read in parallel: blocks of at
    least `INDEX_BYTES`, except the last; the header belongs to none."""

    def __init__(self, start: int) -> None:
        self.blocks: list[Block] = []
        self._end = start

    def add(self, length: int, rows: int) -> None:
        offset = self._end
        self._end += length
        if self.blocks and self.blocks[-1].length < INDEX_BYTES:
            last = self.blocks.pop()
            offset, length, rows = last.offset, last.length + length, last.rows + rows
        self.blocks.append(Block(offset=offset, length=length, rows=rows))
