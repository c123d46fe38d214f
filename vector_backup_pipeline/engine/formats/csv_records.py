"""Records of a CSV stream as PostgreSQL writes it: a line feed ends a record, unless in quotes.

A quote opens or closes a value, or is one of a pair inside it. So a line feed ends a record if the
number of quotes before it is even.
"""

# PostgreSQL refuses values of more than 1 GiB: in a longer record, a quote is not closed.
LONGEST_RECORD = 1 << 30


class UnfinishedRecord(ValueError):
    """The stream ends in the middle of a record, or a record does not end."""


class RecordSplitter:
    """Splits a stream, cut anywhere into chunks, into records. Python code runs once a chunk; once
    a line only where line feeds are in quotes."""

    def __init__(self, longest: int = LONGEST_RECORD) -> None:
        self._longest = longest
        # The pieces of the record that has not ended yet, and whether a quote is open in it.
        self._pieces: list[bytes] = []
        self._in_quotes = False
        self.begun = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The records that end in `chunk`, without their line ends. Raises `UnfinishedRecord` if
        the record before it is too long."""
        self._check_length()
        first, *others = chunk.split(b"\n")
        if not others:
            self._add(first)
            return []
        *lines, rest = others
        records = self._end_line(first)
        if self._in_quotes or (b'"' in chunk and any(map(_opens_or_closes, lines))):
            for line in lines:
                records += self._end_line(line)
        else:
            records += lines
        self._add(rest)
        return records

    def finish(self) -> None:
        """Raises `UnfinishedRecord` if a record has not ended."""
        self._check_length()
        if self.begun:
            raise UnfinishedRecord(
                f"it ends in the middle of a record, after {self.begun} bytes of it"
            )

    def _check_length(self) -> None:
        if self.begun > self._longest:
            raise UnfinishedRecord(
                f"a record has more than {self._longest} bytes: a quote is never closed"
            )

    def _add(self, piece: bytes) -> None:
        if piece:
            self._pieces.append(piece)
            self.begun += len(piece)
            self._in_quotes ^= _opens_or_closes(piece)

    def _end_line(self, line: bytes) -> list[bytes]:
        """The record that the line feed after `line` ends, if it does."""
        self._add(line)
        if self._in_quotes:
            self._pieces.append(b"\n")
            self.begun += 1
            return []
        record = b"".join(self._pieces)
        self._pieces, self.begun = [], 0
        return [record]


def _opens_or_closes(piece: bytes) -> bool:
    return piece.count(b'"') % 2 == 1
