"""Stored files held against what was written: nothing but the file and its manifest is needed."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

import xxhash

from vector_backup_pipeline.engine.errors import IntegrityError
from vector_backup_pipeline.engine.formats.blocks import DIGEST_MODULUS
from vector_backup_pipeline.engine.formats.csv import csv_record
from vector_backup_pipeline.engine.formats.csv_records import UnfinishedRecord, record_batches
from vector_backup_pipeline.engine.manifest import DataFile
from vector_backup_pipeline.engine.storage.contract import BackupDirectory


def check_stored_file(directory: BackupDirectory, name: str, size: int, sha256: str) -> None:
    """Read `name` whole and compare its size and hash.

    Raises:
        IntegrityError: they differ.
        ResourceNotFound, StorageError: it can't be read.
    """
    stored = _StoredBytes(directory, name)
    for _ in stored.chunks():
        pass
    if (stored.size, stored.sha256) != (size, sha256):
        raise IntegrityError(
            f"{directory.location}/{name} is not what was written: {stored.size} bytes with "
            f"SHA-256 {stored.sha256}, expected {size} bytes with {sha256}. Check the disk, and "
            "make a new backup."
        )


def check_rows(directory: BackupDirectory, data_file: DataFile) -> None:
    """Read a stored file once, and compare with its entry in the manifest: size, SHA-256, header,
    number of rows, content digest, and the block index.

    Raises:
        IntegrityError: it names all that differs, with what was found and what was expected.
        ResourceNotFound, StorageError: the file can't be read.
    """
    stored = _StoredBytes(directory, data_file.name)
    rows = _Rows(data_file)
    rows.read(stored)
    faults = [
        *_differing("size in bytes", stored.size, data_file.bytes),
        *_differing("SHA-256", stored.sha256, data_file.sha256),
        *rows.faults(),
    ]
    if faults:
        raise IntegrityError(
            f"{directory.location}/{data_file.name} is not what was written: {'; '.join(faults)}. "
            "Check the disk, take this table from another set, and make a new backup."
        )


def contradiction(data_file: DataFile) -> str | None:
    """What is wrong with the entry by itself: its blocks must be all of the file after the header,
    and hold its rows."""
    end = len(csv_record(data_file.digest.columns))
    for number, block in enumerate(data_file.blocks, 1):
        if block.offset != end or block.length < 1 or block.rows < 1:
            return (
                f"block {number} begins at byte {block.offset} with {block.length} bytes and "
                f"{block.rows} rows, expected byte {end}"
            )
        end += block.length
    rows = sum(block.rows for block in data_file.blocks)
    if (end, rows) != (data_file.bytes, data_file.rows):
        return (
            f"the blocks end at byte {end} and hold {rows} rows, expected byte {data_file.bytes} "
            f"and {data_file.rows} rows"
        )
    return None


class _StoredBytes:
    """A stored file as it is read: its chunks, and the size and SHA-256 of those read so far."""

    def __init__(self, directory: BackupDirectory, name: str) -> None:
        self._directory = directory
        self._name = name
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def chunks(self) -> Iterator[bytes]:
        for chunk in self._directory.read(self._name):
            self.size += len(chunk)
            self._hash.update(chunk)
            yield chunk


def _differing(what: str, found: object, expected: object) -> list[str]:
    return [] if found == expected else [f"{what} is {found}, expected {expected}"]


class _Rows:
    """The records of a file, counted and hashed as they go by."""

    def __init__(self, expected: DataFile) -> None:
        self._expected = expected
        self._header = csv_record(expected.digest.columns)
        self._blocks = _BlockCheck(expected, len(self._header))
        self._found_header = b""
        self._rows = 0
        self._digest = 0
        self._end: str | None = None

    def read(self, stored: _StoredBytes) -> None:
        """To the end, also after the last whole record, so that size and hash are the file's."""
        chunks = stored.chunks()
        try:
            for records in self._without_header(chunks):
                self._rows += len(records)
                self._digest += sum(map(xxhash.xxh3_128_intdigest, records))
                self._blocks.add(records)
        except UnfinishedRecord as error:
            self._end = str(error)
        for _ in chunks:
            pass

    def faults(self) -> list[str]:
        digest = f"{self._digest % DIGEST_MODULUS:032x}"
        return [
            *([] if self._end is None else [self._end]),
            *self._header_fault(),
            *_differing("the number of rows", self._rows, self._expected.rows),
            *_differing("the content digest", digest, self._expected.digest.value),
            *self._blocks.faults(),
        ]

    def _header_fault(self) -> list[str]:
        # What a strange file begins with is nobody's business.
        is_right = self._found_header == self._header
        return [] if is_right else ["its first line does not name the manifest's columns"]

    def _without_header(self, chunks: Iterator[bytes]) -> Iterator[list[bytes]]:
        # No record is longer than its block; a longer one would only fill the memory.
        longest = max((block.length for block in self._expected.blocks), default=0)
        batches = record_batches(chunks, longest + len(self._header))
        first = next(batches, None)
        if first is not None:
            self._found_header = first[0] + b"\n"
            yield first[1:]
            yield from batches


class _BlockCheck:
    """Whether the index's blocks begin and end where records do, and hold their rows."""

    def __init__(self, expected: DataFile, start: int) -> None:
        self._offset, self._rows = start, 0
        self._fault = contradiction(expected)
        # Where each block ends, and how many rows end up to there.
        self._ends = [block.offset + block.length for block in expected.blocks]
        self._rows_to = list(accumulate(block.rows for block in expected.blocks))
        self._at = 0

    def add(self, records: Sequence[bytes]) -> None:
        end = self._offset + sum(map(len, records)) + len(records)
        if self._fault is None and self._at < len(self._ends) and self._ends[self._at] <= end:
            self._pass_borders(records)
        self._offset, self._rows = end, self._rows + len(records)

    def faults(self) -> list[str]:
        if self._fault is None and self._at < len(self._ends):
            self._fault = f"the file ends before block {self._at + 1} of {len(self._ends)} does"
        return [self._fault] if self._fault else []

    def _pass_borders(self, records: Sequence[bytes]) -> None:
        borders = list(accumulate((len(each) + 1 for each in records), initial=self._offset))
        while self._at < len(self._ends) and self._ends[self._at] <= borders[-1]:
            end, rows = self._ends[self._at], self._rows_to[self._at]
            place = bisect_left(borders, end)
            number = self._at + 1
            self._at += 1
            if borders[place] != end:
                self._fault = f"block {number} does not end where a row ends, at byte {end}"
            elif self._rows + place != rows:
                self._fault = f"{self._rows + place} rows end with block {number}, expected {rows}"
            if self._fault:
                return
