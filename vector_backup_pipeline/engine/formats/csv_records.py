"""Records of a CSV stream as PostgreSQL writes it: a line feed ends one, unless inside quotes.

A quote only ever opens or closes a value, or is one of a pair inside it; so a record is over at a
line feed before which the number of quotes is even. That also holds for the older system's files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

# The server can't take a value of more than 1 GiB; what is longer is a quote that nothing closes.
LONGEST_RECORD = 1 << 30


class UnfinishedRecord(ValueError):
    """The stream ends in the middle of a record, or a record has no end that could be."""


def split_records(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Each record with its line end.

    Raises:
        UnfinishedRecord: after the last whole record.
    """
    for batch in record_batches(chunks):
        for record in batch:
            yield record + b"\n"


def record_batches(chunks: Iterable[bytes], longest: int = LONGEST_RECORD) -> Iterator[list[bytes]]:
    """The records *without* their line ends, in one list for each chunk that ends any.

    The chunks may be cut anywhere.

    Raises:
        UnfinishedRecord: the last record has no line end, or an open quote; or a record is longer
            than `longest` bytes.
    """
    splitter = RecordSplitter(longest)
    for chunk in chunks:
        if batch := splitter.feed(chunk):
            yield batch
    splitter.finish()


class RecordSplitter:
    """Cuts a stream into records. What runs in Python runs once a chunk; only where line feeds
    stand inside quotes, once a line."""

    def __init__(self, longest: int = LONGEST_RECORD) -> None:
        self._longest = longest
        self._begun = _Begun()

    @property
    def begun(self) -> int:
        """Bytes of a record that is not over yet."""
        return self._begun.size

    def feed(self, chunk: bytes) -> list[bytes]:
        """The records that end in `chunk`, without their line ends.

        Raises:
            UnfinishedRecord: the record that was begun before it has no end that could be.
        """
        self._check_length()
        *lines, rest = chunk.split(b"\n")
        batch = self._begun.complete(lines, has_quotes=b'"' in chunk) if lines else []
        self._begun.add(rest)
        return batch

    def finish(self) -> None:
        """Raises `UnfinishedRecord` if a record is not over."""
        self._check_length()
        if self.begun:
            raise UnfinishedRecord(
                f"it ends in the middle of a record, of which {self.begun} bytes are there"
            )

    def _check_length(self) -> None:
        if self.begun > self._longest:
            raise UnfinishedRecord(
                f"a record has more than {self._longest} bytes: somewhere a quote is never closed"
            )


class _Begun:
    """The record that is not over yet: its pieces, and whether a quote is open in it."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._in_quotes = False
        self.size = 0

    def add(self, piece: bytes) -> None:
        if piece:
            self._pieces.append(piece)
            self.size += len(piece)
            self._in_quotes ^= _opens_or_closes(piece)

    def complete(self, lines: list[bytes], *, has_quotes: bool) -> list[bytes]:
        """The records that `lines` end, each line being followed by a line feed."""
        first, *others = lines
        ended = self._end_line(first)
        if not self._in_quotes and not (has_quotes and any(map(_opens_or_closes, others))):
            return [*ended, *others]
        for line in others:
            ended += self._end_line(line)
        return ended

    def _end_line(self, line: bytes) -> list[bytes]:
        """The record that a line feed after `line` ends, if it does."""
        if not self._pieces and not _opens_or_closes(line):
            return [line]
        self.add(line)
        if self._in_quotes:
            self._pieces.append(b"\n")
            self.size += 1
            return []
        record = b"".join(self._pieces)
        self._pieces, self.size = [], 0
        return [record]


def _opens_or_closes(piece: bytes) -> bool:
    """Whether after `piece` we are inside quotes when before it we were outside, or the reverse."""
    return piece.count(b'"') % 2 == 1
