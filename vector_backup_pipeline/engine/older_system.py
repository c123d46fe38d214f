"""Files of the older backup service, which wrote CSV with Python's `csv.writer` and no manifest.

Rows end in `\\r\\n`, or in `\\n` after a file transfer that changed line ends; values are quoted
where needed; NULL and the empty string are both nothing; JSON is Python's `repr` of it, or JSON.
Such a file is read strictly: what `csv.writer` does not write is an error.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from vector_backup_pipeline.engine.cancellation import check
from vector_backup_pipeline.engine.errors import IntegrityError
from vector_backup_pipeline.engine.formats.csv import csv_record
from vector_backup_pipeline.engine.formats.csv_records import LONGEST_RECORD
from vector_backup_pipeline.engine.formats.python_text import json_of
from vector_backup_pipeline.engine.results import UnreadableRow
from vector_backup_pipeline.engine.storage.contract import BackupDirectory
from vector_backup_pipeline.engine.stored_files import StoredBytes

_ROW_ENDS = ("\r\n", "\n")
_PLAIN = re.compile(r'[^",\r\n]*')
_CUT_IN_QUOTES = "the file ends inside quotes: it was cut, or a quote is missing"
# A row takes some hundred bytes here; a file that is something else altogether has millions.
_KEPT_UNREADABLE = 10_000
_SHOWN_UNREADABLE = 20

Row: TypeAlias = tuple[int, list[str]]


def read_header(directory: BackupDirectory, name: str) -> tuple[str, ...]:
    """The names of the file's columns, in its order.

    Raises:
        IntegrityError: its first line is no header.
        ResourceNotFound, StorageError: it can't be read.
    """
    columns, rows = _open(directory, name)
    rows.close()
    return columns


def read_rows(directory: BackupDirectory, name: str) -> Iterator[Row]:
    """The rows after the header: the number of the line that each begins in, and its fields.

    Raises:
        IntegrityError: a row can't be read; the message says which line and why.
        ResourceNotFound, StorageError: the file can't be read.
    """
    _, rows = _open(directory, name)
    for row in rows:
        if isinstance(row, UnreadableRow):
            raise _unreadable(directory, name, [row], 1)
        yield row


def as_csv_records(
    rows: Iterable[Row],
    columns: Sequence[str],
    json_columns: Collection[str],
    not_null_columns: Collection[str],
) -> Iterator[bytes]:
    """The rows as PostgreSQL's CSV: NULL for nothing, or `''` where a column is NOT NULL; JSON as
    JSON.

    Raises:
        IntegrityError: a value is no JSON that the older system can have written.
    """
    is_json = [column in json_columns for column in columns]
    empty = ["" if column in not_null_columns else None for column in columns]
    for line, fields in rows:
        values = []
        for at, field in enumerate(fields):
            if not field:
                values.append(empty[at])
            elif is_json[at]:
                values.append(_json_in(line, columns[at], field))
            else:
                values.append(field)
        yield csv_record(values)


@dataclass(frozen=True)
class OlderFile:
    """What a file was found to hold: `size` in bytes, `sha256` of them, `rows` with those that
    can't be read. Of many `unreadable` rows the first are kept; `unreadable_count` counts all."""

    columns: tuple[str, ...]
    rows: int
    size: int
    sha256: str
    unreadable: tuple[UnreadableRow, ...]
    unreadable_count: int


def examine_file(
    directory: BackupDirectory, name: str, json_columns: Collection[str] = ()
) -> OlderFile:
    """Read the file whole, and find every row that can't be read.

    Raises:
        ResourceNotFound, StorageError: the file can't be read.
    """
    stored = StoredBytes(directory, name)
    read = _read(stored.chunks())
    header = next(read)
    columns = () if isinstance(header, UnreadableRow) else tuple(header[1])
    json_at = [at for at, column in enumerate(columns) if column in json_columns]
    unreadable = [header] if isinstance(header, UnreadableRow) else []
    rows, count = 0, len(unreadable)
    for row in read:
        rows += 1
        fault = row if isinstance(row, UnreadableRow) else _json_fault(row, columns, json_at)
        if fault is not None:
            count += 1
            unreadable += [fault] if count <= _KEPT_UNREADABLE else []
    return OlderFile(columns, rows, stored.size, stored.sha256, tuple(unreadable), count)


def check_file(directory: BackupDirectory, name: str, json_columns: Collection[str]) -> None:
    """Read the file whole.

    Raises:
        IntegrityError: rows can't be read; it names the first of them by line, and why.
        ResourceNotFound, StorageError: the file can't be read.
    """
    found = examine_file(directory, name, json_columns)
    if found.unreadable_count:
        raise _unreadable(directory, name, found.unreadable, found.unreadable_count)


_Rows: TypeAlias = Generator[Row | UnreadableRow, None, None]


def _open(directory: BackupDirectory, name: str) -> tuple[tuple[str, ...], _Rows]:
    """The columns, and what follows the header."""
    rows = _read(directory.read(name))
    header = next(rows)
    if isinstance(header, UnreadableRow):
        raise _unreadable(directory, name, [header], 1)
    return tuple(header[1]), rows


def _read(chunks: Iterable[bytes]) -> _Rows:
    """The header and the rows, and an `UnreadableRow` for each that can't be read.

    After such a row, reading goes on with the next line. A header that can't be read is the only
    item.
    """
    reader = _RowReader()
    width = None
    for line in _lines(chunks):
        check()
        row = reader.take(line)
        if row is None:
            continue
        if width is None:
            row = _checked_header(row)
            width = 0 if isinstance(row, UnreadableRow) else len(row[1])
        elif not isinstance(row, UnreadableRow) and len(row[1]) != width:
            reason = f"{len(row[1])} values where the header has {width} columns"
            row = UnreadableRow(line=row[0], reason=reason)
        yield row
        if not width:
            return
    if cut := reader.end():
        yield cut
    elif width is None:
        yield UnreadableRow(line=1, reason="the file is empty")


def _checked_header(header: Row | UnreadableRow) -> Row | UnreadableRow:
    if isinstance(header, UnreadableRow):
        return header
    names = header[1]
    doubtful = {name for name in names if not name or names.count(name) > 1}
    if doubtful:
        reason = f"the header has a column name empty or twice: {sorted(doubtful)}"
        return UnreadableRow(line=1, reason=reason)
    return header


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
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


class _RowReader:
    """Takes line after line; gives a row when one is whole, or says why it can't be."""

    def __init__(self) -> None:
        self._line = 0
        self._begin()

    def _begin(self) -> None:
        self._first_line = self._line + 1
        self._fields: list[str] = []
        self._quoted: list[str] | None = None
        self._size = 0

    def take(self, data: bytes) -> Row | UnreadableRow | None:
        """None as long as the row goes on in the next line."""
        self._line += 1
        self._size += len(data)
        try:
            is_whole = self._take(data.decode())
        except UnicodeDecodeError as error:
            return self._fault(f"byte {error.start + 1} of line {self._line} is not UTF-8")
        except _Malformed as error:
            return self._fault(str(error))
        if not is_whole:
            return None
        row = self._first_line, self._fields
        self._begin()
        return row

    def end(self) -> UnreadableRow | None:
        """What the end of the file cuts off, if anything."""
        if self._quoted is None:
            return None
        return self._fault(_CUT_IN_QUOTES)

    def _fault(self, reason: str) -> UnreadableRow:
        fault = UnreadableRow(line=self._first_line, reason=reason)
        self._begin()
        return fault

    def _take(self, line: str) -> bool:
        if "\0" in line:
            raise _Malformed("a zero byte, which no text of the database holds")
        if self._quoted is None and line in _ROW_ENDS:
            raise _Malformed("an empty line")
        at = 0
        while True:
            at = self._take_field(line, at)
            if self._quoted is not None:
                return False
            if line.startswith(",", at):
                at += 1
            elif line[at:] in _ROW_ENDS:
                return True
            else:
                raise _Malformed(self._why_not_over(line, at))

    def _take_field(self, line: str, at: int) -> int:
        """Read a value, or as much of it as is in this line; returns where it ends."""
        if self._quoted is None:
            if not line.startswith('"', at):
                return self._take_plain(line, at)
            self._quoted, at = [], at + 1
        end = _closing_quote(line, at)
        if end < 0:
            self._take_to_line_end(line, at)
            return len(line)
        self._quoted.append(line[at:end])
        self._fields.append("".join(self._quoted).replace('""', '"'))
        self._quoted = None
        return end + 1

    def _take_to_line_end(self, line: str, at: int) -> None:
        if self._quoted is None or not line.endswith("\n"):
            raise _Malformed(_CUT_IN_QUOTES)
        if self._size > LONGEST_RECORD:
            raise _Malformed("more than 1 GiB in quotes: somewhere a quote is missing")
        self._quoted.append(line[at:])

    def _take_plain(self, line: str, at: int) -> int:
        match = _PLAIN.match(line, at)
        end = match.end() if match else at
        self._fields.append(line[at:end])
        return end

    def _why_not_over(self, line: str, at: int) -> str:
        value = len(self._fields)
        if at == len(line):
            return "the file ends in the middle of this row: it was cut"
        if line[at] == "\r":
            return f"a stray carriage return in value {value}"
        if line[at] == '"':
            return f"a stray quote in value {value}"
        return f"value {value} goes on after its closing quote"


def _closing_quote(line: str, at: int) -> int:
    """Where the quote stands that is not one of a pair; -1 if the value goes on."""
    end = line.find('"', at)
    while end >= 0 and line.startswith('"', end + 1):
        end = line.find('"', end + 2)
    return end


class _Malformed(Exception):
    """The reason why a row can't be read."""


def _json_fault(row: Row, columns: Sequence[str], json_at: Iterable[int]) -> UnreadableRow | None:
    line, fields = row
    for at in json_at:
        try:
            if fields[at]:
                json_of(fields[at])
        except ValueError as error:
            return UnreadableRow(line=line, reason=_no_json(columns[at], error))
    return None


def _json_in(line: int, column: str, text: str) -> str:
    try:
        return json_of(text)
    except ValueError as error:
        raise IntegrityError(
            f"Line {line} of the older system's file: {_no_json(column, error)}. Correct the file, "
            "or restore another set."
        ) from error


def _no_json(column: str, error: ValueError) -> str:
    return f"column {column} holds no JSON: {error}"


def _unreadable(
    directory: BackupDirectory, name: str, rows: Sequence[UnreadableRow], count: int
) -> IntegrityError:
    shown = rows[:_SHOWN_UNREADABLE]
    lines = "".join(f"\n  line {row.line}: {row.reason}" for row in shown)
    more = f"\n  and {count - len(shown)} more" if count > len(shown) else ""
    return IntegrityError(
        f"{directory.location}/{name} has {count} row(s) that can't be read:{lines}{more}\n"
        "Correct the file (a copy of it), or restore another set."
    )
