"""The formats of stored rows, csv and binary."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from vector_backup_pipeline.engine.formats import pgcopy
from vector_backup_pipeline.engine.formats.csv import csv_record
from vector_backup_pipeline.engine.formats.csv_records import RecordSplitter
from vector_backup_pipeline.parameters.types import Format


class _CsvSplitter(RecordSplitter):
    """The first record is the header."""

    header = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        rows = super().feed(chunk)
        if rows and not self.header:
            self.header = rows[0] + b"\n"
            return rows[1:]
        return rows


# Splits a table's whole stream, cut anywhere into chunks, into rows as the content digest takes
# them. `header` are the bytes before the first row, `begun` is the size of an unfinished row.
RowSplitter: TypeAlias = _CsvSplitter | pgcopy.TupleSplitter


@dataclass(frozen=True)
class RowFormat:
    """A table's stream is a header, rows with `line_end` bytes after each, and a trailer.

    `header` makes the header from the columns' names. `rows` takes consecutive messages of a COPY
    and returns the rows in them, and whether the COPY can end with them. `splitter` is for a stream
    without rows of more than this number of bytes.
    """

    name: Format
    line_end: int
    trailer: bytes
    header: Callable[[Sequence[str]], bytes]
    rows: Callable[[list[bytes]], tuple[list[bytes], bool]]
    splitter: Callable[[int], RowSplitter]


CSV = RowFormat("csv", 1, b"", csv_record, lambda messages: (messages, True), _CsvSplitter)
BINARY = RowFormat(
    "binary",
    line_end=0,
    trailer=pgcopy.TRAILER,
    header=lambda _: pgcopy.HEADER,
    rows=pgcopy.without_framing,
    splitter=lambda _: pgcopy.TupleSplitter(),
)


def row_format(name: str) -> RowFormat:
    """The format that parameters and manifests call `name`."""
    return {"csv": CSV, "binary": BINARY}[name]
