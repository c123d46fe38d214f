"""Files of the older backup service, which wrote CSV with Python's `csv.writer` and no manifest.

Rows end in `\\r\\n`, or in `\\n` after a file transfer that changed line ends. NULL and the empty
string are both an empty field; JSON is Python's `repr` of it, or JSON. Reading is strict.
"""

import contextlib
import csv
import re
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

from vector_backup_pipeline.engine.cancellation import check
from vector_backup_pipeline.engine.errors import IntegrityError
from vector_backup_pipeline.engine.formats.csv import csv_record
from vector_backup_pipeline.engine.formats.csv_records import LONGEST_RECORD
from vector_backup_pipeline.engine.formats.python_text import json_of
from vector_backup_pipeline.engine.manifest import DataFile, Digest
from vector_backup_pipeline.engine.results import UnreadableRow
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.stored_files import StoredBytes

# A file that is something else altogether has millions of unreadable rows.
_MOST_UNREADABLE = 10_000
# What bytes that are not UTF-8 are decoded to.
_NOT_UTF_8 = re.compile("[\udc80-\udcff]")

# The number of the line in which a row begins, and its fields.
Row: TypeAlias = tuple[int, list[str]]


@dataclass(frozen=True)
class OlderFile:
    """A file as a manifest describes it, and its `unreadable` rows, of which only the first ones
    are kept; `unreadable_count` counts all."""

    file: DataFile
    unreadable: list[UnreadableRow]
    unreadable_count: int

    def check_readable(self, directory: BackupDirectory) -> None:
        """Raise `IntegrityError`, with the first unreadable row, if there is any."""
        if self.unreadable_count:
            path = f"{directory.location}/{self.file.name}"
            raise _unreadable(path, self.unreadable[0], self.unreadable_count)


def read_header(directory: BackupDirectory, name: str) -> tuple[str, ...]:
    """The file's columns, in order. Raises as `read_rows`."""
    with contextlib.closing(_read_whole(directory, name)) as rows:
        return tuple(next(rows)[1])


def read_rows(directory: BackupDirectory, name: str) -> Iterator[Row]:
    """The rows after the header.

    Raises:
        IntegrityError: a row or the header cannot be read.
        ResourceNotFound, StorageError: the file cannot be read.
    """
    return islice(_read_whole(directory, name), 1, None)


def as_csv_records(
    rows: Iterable[Row],
    columns: Sequence[str],
    json_columns: Collection[str],
    not_null_columns: Collection[str],
) -> Iterator[bytes]:
    """The rows as PostgreSQL's CSV: an empty field is NULL, or `''` in a NOT NULL column; JSON is
    exact JSON. Raises `IntegrityError` if a JSON column has text that is none."""
    empty = ["" if column in not_null_columns else None for column in columns]
    for row in rows:
        fields = _fields(row, columns, json_columns)
        if isinstance(fields, UnreadableRow):
            raise _unreadable("The older system's file", fields)
        yield csv_record([field or null for field, null in zip(fields, empty, strict=True)])


def examine_file(
    directory: BackupDirectory, name: str, json_columns: Collection[str] = ()
) -> OlderFile:
    """Read the file completely, and find every row that cannot be read."""
    stored = StoredBytes(directory, name)
    columns: list[str] = []
    unreadable: list[UnreadableRow] = []
    total = unreadable_count = 0
    for row in _read(stored.chunks()):
        if isinstance(row, UnreadableRow):
            fault: UnreadableRow | list[str] = row
        elif not columns:
            columns = row[1]
            continue
        else:
            fault = _fields(row, columns, json_columns)
        total += 1
        if isinstance(fault, UnreadableRow):
            unreadable_count += 1
            if unreadable_count <= _MOST_UNREADABLE:
                unreadable.append(fault)
    file = DataFile(
        name=name,
        format="csv",
        compression="none",
        rows=total,
        bytes=stored.size,
        sha256=stored.sha256,
        digest=Digest(columns=columns, value=None),
        duration=0.0,
        blocks=[],
    )
    return OlderFile(file, unreadable, unreadable_count)


def _fields(
    row: Row, columns: Sequence[str], json_columns: Collection[str]
) -> list[str] | UnreadableRow:
    """The fields, those of JSON columns as exact JSON."""
    line, fields = row
    converted = list(fields)
    for number, column in enumerate(columns):
        if fields[number] and column in json_columns:
            try:
                converted[number] = json_of(fields[number])
            except ValueError as error:
                return UnreadableRow(line=line, reason=f"column {column} has no JSON: {error}")
    return converted


def _read_whole(directory: BackupDirectory, name: str) -> Generator[Row, None, None]:
    for row in _read(directory.read(name)):
        if isinstance(row, UnreadableRow):
            raise _unreadable(f"{directory.location}/{name}", row)
        yield row


def _read(chunks: Iterable[bytes]) -> Iterator[Row | UnreadableRow]:
    """The header and the rows; an `UnreadableRow` for each that cannot be read, after which reading
    continues with the next line. A header that cannot be read is the only item."""
    csv.field_size_limit(LONGEST_RECORD)
    row_lines: list[str] = []

    def lines() -> Iterator[str]:
        for line in _split_lines(chunks):
            row_lines.append(line.decode(errors="surrogateescape"))
            yield row_lines[-1]

    reader = csv.reader(lines(), strict=True)
    columns: list[str] | None = None
    while True:
        check()
        row_lines.clear()
        first_line = reader.line_num + 1
        try:
            fields = next(reader)
            reason = _fault(row_lines, fields, columns)
        except StopIteration:
            break
        except csv.Error as error:
            reason = f"no valid CSV: {error}"
        if reason:
            yield UnreadableRow(line=first_line, reason=reason)
            if columns is None:
                return
        else:
            yield first_line, fields
            columns = columns or fields
    if columns is None:
        yield UnreadableRow(line=1, reason="the file is empty")


def _fault(
    lines: Sequence[str], fields: Sequence[str], columns: Sequence[str] | None
) -> str | None:
    """Why a row that the `csv` module has read from these lines is not accepted."""
    if not lines[-1].endswith("\n"):
        return "the file ends in the middle of this row: it was cut"
    if sum(line.count('"') for line in lines) % 2:
        return "a stray quote"
    if any(map(_NOT_UTF_8.search, lines)):
        return "bytes that are not UTF-8"
    if any("\0" in line for line in lines):
        return "a zero byte, which no text of a database has"
    if columns is not None and len(fields) != len(columns):
        return f"{len(fields)} values where the header has {len(columns)} columns"
    if columns is None and not (all(fields) and len(set(fields)) == len(fields) > 0):
        return "the header has a column name that is empty or used twice"
    return None


def _split_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Each line with its line feed; the last one may have none."""
    begun: list[bytes] = []
    for chunk in chunks:
        *lines, rest = chunk.split(b"\n")
        for line in lines:
            yield b"".join([*begun, line, b"\n"])
            begun.clear()
        if rest:
            begun.append(rest)
    if begun:
        yield b"".join(begun)


def _unreadable(file: str, row: UnreadableRow, count: int = 1) -> IntegrityError:
    return IntegrityError(
        f"{file} has {count} row(s) that cannot be read, the first in line {row.line}: "
        f"{row.reason}. Correct the file (a copy of it), or choose another set."
    )
