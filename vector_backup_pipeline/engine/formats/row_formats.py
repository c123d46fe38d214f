"""The formats of stored rows, csv and binary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from vector_backup_pipeline.engine.formats import pgcopy
from vector_backup_pipeline.engine.formats.csv import csv_record
from vector_backup_pipeline.engine.formats.csv_records import LONGEST_RECORD, RecordSplitter
from vector_backup_pipeline.parameters.types import Format


class RowSplitter(Protocol):
    """Splits a table's whole stream into rows, in chunks that may be cut anywhere.

    `header` are the bytes before the first row, `begun` the number of bytes of an unfinished row.
    """

    @property
    def header(self) -> bytes: ...

    @property
    def begun(self) -> int: ...

    def feed(self, chunk: bytes) -> list[bytes]:
        """The rows that end in `chunk`, as the content digest takes them. Raises
        `UnfinishedRecord` if they are malformed."""

    def finish(self) -> None:
        """Raises `UnfinishedRecord` if the stream can't end here."""


class RowFormat(Protocol):
    """A table's stream is a header, rows with `line_end` bytes after each, and a trailer."""

    name: Format
    line_end: int
    trailer: bytes

    def header(self, columns: Sequence[str]) -> bytes: ...

    def rows(self, messages: list[bytes]) -> tuple[list[bytes], bool]:
        """The rows in consecutive messages of a COPY, and whether it can end with them."""

    def splitter(self, longest: int = LONGEST_RECORD) -> RowSplitter:
        """For a stream without rows of more than `longest` bytes."""


class _Csv:
    name: Format = "csv"
    line_end = 1
    trailer = b""

    def header(self, columns: Sequence[str]) -> bytes:
        return csv_record(columns)

    def rows(self, messages: list[bytes]) -> tuple[list[bytes], bool]:
        return messages, True

    def splitter(self, longest: int = LONGEST_RECORD) -> RowSplitter:
        return _CsvSplitter(longest)


class _CsvSplitter(RecordSplitter):
    """The first record is the header."""

    header = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        rows = super().feed(chunk)
        if rows and not self.header:
            self.header = rows[0] + b"\n"
            return rows[1:]
        return rows


class _Binary:
    name: Format = "binary"
    line_end = 0
    trailer = pgcopy.TRAILER

    def header(self, columns: Sequence[str]) -> bytes:  # noqa: ARG002 - it names no columns.
        return pgcopy.HEADER

    def rows(self, messages: list[bytes]) -> tuple[list[bytes], bool]:
        return pgcopy.without_framing(messages)

    def splitter(self, longest: int = LONGEST_RECORD) -> RowSplitter:  # noqa: ARG002 - has lengths
        return pgcopy.TupleSplitter()


CSV: RowFormat = _Csv()
BINARY: RowFormat = _Binary()


def row_format(name: str) -> RowFormat:
    """The format that parameters and manifests call `name`."""
    return {"csv": CSV, "binary": BINARY}[name]
