"""COPY's binary format (PostgreSQL documentation, COPY, "Binary Format").

A signature with flags and the length of an extension; tuples, each the number of its fields and for
each field its length and bytes, -1 for NULL; a trailer. Numbers are big-endian. No tuple has as
many fields as signature or trailer would mean, so neither can be mistaken for one.
"""

from struct import Struct

from vector_backup_pipeline.engine.errors import IntegrityError
from vector_backup_pipeline.engine.formats.csv_records import LONGEST_RECORD, UnfinishedRecord

_SIGNATURE = b"PGCOPY\n\xff\r\n\0"
HEADER = _SIGNATURE + bytes(8)
TRAILER = b"\xff\xff"

_FIELD_COUNT, _FIELD_LENGTH = Struct(">H"), Struct(">i")


def without_framing(messages: list[bytes]) -> tuple[list[bytes], bool]:
    """The tuples in consecutive messages of a COPY, and whether it ends with them: its first
    message begins with the header, its last one is the trailer. Raises `IntegrityError` if the
    header has flags or an extension."""
    if messages[0].startswith(_SIGNATURE):
        if not messages[0].startswith(HEADER):
            raise IntegrityError(
                "The server's binary COPY has flags or an extension that this version does not "
                "know. Use format 'csv'."
            )
        first = messages[0][len(HEADER) :]
        messages = [first, *messages[1:]] if first else messages[1:]
    has_ended = messages[-1:] == [TRAILER]
    return (messages[:-1] if has_ended else messages), has_ended


def tuple_fields(row: bytes) -> list[bytes | None]:
    """The fields of one tuple, as their types' send functions wrote them."""
    fields: list[bytes | None] = []
    at = _FIELD_COUNT.size
    for _ in range(_FIELD_COUNT.unpack_from(row)[0]):
        (length,) = _FIELD_LENGTH.unpack_from(row, at)
        at += _FIELD_LENGTH.size
        fields.append(None if length < 0 else row[at : at + length])
        at += max(length, 0)
    return fields


class TupleSplitter:
    """Splits a whole stream into tuples, in chunks that may be cut anywhere."""

    def __init__(self) -> None:
        self.header = b""
        self._pieces: list[bytes] = []
        self._needed = len(HEADER)
        self._has_ended = False
        self.begun = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The tuples that end in `chunk`. Raises `UnfinishedRecord` if they are malformed."""
        self._pieces.append(chunk)
        self.begun += len(chunk)
        # The length of a long field is known, so its pieces are joined once.
        if self.begun < self._needed:
            return []
        return self._split(b"".join(self._pieces))

    def finish(self) -> None:
        """Raises `UnfinishedRecord` unless the stream ended with the trailer."""
        if not self._has_ended:
            raise UnfinishedRecord(
                f"it ends without the trailer of a binary COPY, {self.begun} bytes after a row"
            )

    def _split(self, data: bytes) -> list[bytes]:
        rows, at = [], 0
        if not self.header:
            self.header, at = data[: len(HEADER)], len(HEADER)
        while not self._has_ended:
            end = _end_of_tuple(data, at)
            if end > len(data):
                self._needed = end - at
                break
            if data[at:end] == TRAILER:
                self._has_ended = True
            else:
                rows.append(data[at:end])
            at = end
        if self._has_ended and at < len(data):
            raise UnfinishedRecord(f"{len(data) - at} bytes follow the trailer of a binary COPY")
        self._pieces, self.begun = [data[at:]], len(data) - at
        return rows


def _end_of_tuple(data: bytes, begin: int) -> int:
    """The end of the tuple at `begin`; beyond the end of `data`, at least as many bytes are needed.
    The trailer counts as a tuple."""
    at = begin + _FIELD_COUNT.size
    if len(data) < at or data[begin:at] == TRAILER:
        return at
    for _ in range(_FIELD_COUNT.unpack_from(data, begin)[0]):
        if len(data) < at + _FIELD_LENGTH.size:
            return at + _FIELD_LENGTH.size
        (length,) = _FIELD_LENGTH.unpack_from(data, at)
        if not -1 <= length <= LONGEST_RECORD:
            raise UnfinishedRecord(f"a binary COPY cannot have a field of {length} bytes")
        at += _FIELD_LENGTH.size + max(length, 0)
    return at
