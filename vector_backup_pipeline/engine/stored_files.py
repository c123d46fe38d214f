"""Stored files held against what was written: nothing but the file and its manifest is needed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import accumulate

from vector_backup_pipeline.engine.cancellation import check
from vector_backup_pipeline.engine.errors import IntegrityError
from vector_backup_pipeline.engine.formats.blocks import DIGEST_MODULUS, digest_of
from vector_backup_pipeline.engine.formats.compression import UnreadableFrame, codec
from vector_backup_pipeline.engine.formats.csv_records import LONGEST_RECORD, UnfinishedRecord
from vector_backup_pipeline.engine.formats.row_formats import row_format
from vector_backup_pipeline.engine.manifest import DataFile
from vector_backup_pipeline.engine.storage.contract import BackupDirectory


def check_stored_file(directory: BackupDirectory, name: str, size: int, sha256: str) -> None:
    """Read `name` whole and compare its size and hash.

    Raises:
        IntegrityError: they differ.
        ResourceNotFound, StorageError: it can't be read.
    """
    stored = StoredBytes(directory, name)
    for _ in stored.chunks():
        pass
    if (stored.size, stored.sha256) != (size, sha256):
        raise IntegrityError(
            f"{directory.location}/{name} is not what was written: {stored.size} bytes with "
            f"SHA-256 {stored.sha256}, expected {size} bytes with {sha256}. Check the disk, and "
            "make a new backup."
        )


def check_stored_size(directory: BackupDirectory, name: str, size: int) -> None:
    """Look whether `name` is there and of its size; nothing is read.

    Raises:
        IntegrityError: it is of another size.
        ResourceNotFound, StorageError: it can't be looked at.
    """
    found = directory.size(name)
    if found != size:
        raise IntegrityError(
            f"{directory.location}/{name} has {found} bytes, and {size} were written. Look for "
            "what else writes there, and make a new backup."
        )


def check_rows(directory: BackupDirectory, data_file: DataFile) -> None:
    """Read a stored file once, and compare with its entry in the manifest: size, SHA-256, header,
    number of rows, content digest, and the block index.

    Raises:
        IntegrityError: it names all that differs, with what was found and what was expected.
        ResourceNotFound, StorageError: the file can't be read.
    """
    stored = StoredBytes(directory, data_file.name)
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
    """What is wrong with the entry by itself: its blocks must be all of the file between header and
    trailer, and hold its rows. A file of the older system has no blocks."""
    if not data_file.has_digest:
        return None
    form, is_plain = row_format(data_file.format), data_file.compression == "none"
    header, trailer = len(form.header(data_file.digest.columns)), len(form.trailer)
    # How long a compressed header or trailer is, nothing tells but the file.
    end = header if is_plain or not data_file.blocks else max(1, data_file.blocks[0].offset)
    for number, block in enumerate(data_file.blocks, 1):
        if block.offset != end or block.length < 1 or block.rows < 1:
            return (
                f"block {number} begins at byte {block.offset} with {block.length} bytes and "
                f"{block.rows} rows, expected byte {end}"
            )
        end += block.length
    rows = sum(block.rows for block in data_file.blocks)
    has_right_end = (
        end + trailer == data_file.bytes
        if is_plain
        else not data_file.blocks or (end < data_file.bytes if trailer else end == data_file.bytes)
    )
    if not has_right_end or rows != data_file.rows:
        return (
            f"the blocks end at byte {end} and hold {rows} rows, expected byte "
            f"{data_file.bytes - (trailer if is_plain else 0)} and {data_file.rows} rows"
        )
    return None


class StoredBytes:
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
            check()
            self.size += len(chunk)
            self._hash.update(chunk)
            yield chunk


def _differing(what: str, found: object, expected: object) -> list[str]:
    return [] if found == expected else [f"{what} is {found}, expected {expected}"]


class _Rows:
    """The rows of a file, counted and hashed as they go by."""

    def __init__(self, expected: DataFile) -> None:
        self._expected = expected
        self._form = row_format(expected.format)
        self._unpacker = codec(expected.compression).unpacker()
        self._splitter = self._form.splitter(_longest_row(expected))
        self._borders = _Borders(expected)
        self._rows = 0
        self._digest = 0
        self._end: str | None = None

    def read(self, stored: StoredBytes) -> None:
        """To the end, also after what can't be read, so that size and hash are the file's."""
        chunks = stored.chunks()
        try:
            for piece in self._borders.cut(chunks):
                for chunk in self._unpacker.feed(piece):
                    rows = self._splitter.feed(chunk)
                    self._rows += len(rows)
                    self._digest += digest_of(rows)
                is_whole = self._unpacker.is_between_frames and not self._splitter.begun
                self._borders.check(self._rows, is_whole=is_whole)
            self._splitter.finish()
            if not self._unpacker.is_between_frames:
                self._end = "its compressed data ends in the middle"
        except (UnfinishedRecord, UnreadableFrame) as error:
            self._end = str(error)
        for _ in chunks:
            pass

    def faults(self) -> list[str]:
        digest = f"{self._digest % DIGEST_MODULUS:032x}"
        return [
            *([] if self._end is None else [self._end]),
            *_differing("the number of rows", self._rows, self._expected.rows),
            *(
                [
                    *self._header_fault(),
                    *_differing("the content digest", digest, self._expected.digest.value),
                ]
                if self._expected.has_digest
                else []
            ),
            *self._borders.faults(),
        ]

    def _header_fault(self) -> list[str]:
        if self._splitter.header == self._form.header(self._expected.digest.columns):
            return []
        # What a strange file begins with is nobody's business.
        if self._form.name == "csv":
            return ["its first line does not name the manifest's columns"]
        return ["it does not begin as a binary COPY does"]


def _longest_row(expected: DataFile) -> int:
    """In bytes. No row is longer than its block; a longer one would only fill the memory."""
    if expected.compression != "none" or not expected.has_digest:
        return LONGEST_RECORD
    longest = max((block.length for block in expected.blocks), default=0)
    return longest + len(row_format(expected.format).header(expected.digest.columns))


class _Borders:
    """Where blocks begin and end: there a row must end, and a frame, and their number be right."""

    def __init__(self, expected: DataFile) -> None:
        self._fault = contradiction(expected)
        blocks = expected.blocks
        # Where the first block begins, then where each ends; and how many rows end up to there.
        self._ends = [blocks[0].offset] if blocks else []
        self._ends += [block.offset + block.length for block in blocks]
        self._rows_to = list(accumulate((block.rows for block in blocks), initial=0))
        self._next = 0
        self._at = 0

    def cut(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The chunks, none of which goes across a border."""
        for chunk in chunks:
            begin = 0
            while begin < len(chunk):
                left = self._ends[self._next] - self._at if self._is_open else len(chunk)
                piece = chunk[begin : begin + left]
                begin += len(piece)
                self._at += len(piece)
                yield piece

    def check(self, rows: int, *, is_whole: bool) -> None:
        """After a piece has been read: `rows` in all, `is_whole` if none of them is begun."""
        if not (self._is_open and self._at == self._ends[self._next]):
            return
        expected = self._rows_to[self._next]
        where = f"block {self._next}" if self._next else "the header"
        if not is_whole:
            self._fault = f"{where} does not end where a row ends, at byte {self._at}"
        elif rows != expected:
            self._fault = f"{rows} rows end with {where}, expected {expected}"
        self._next += 1

    def faults(self) -> list[str]:
        if self._is_open:
            number = max(1, self._next)
            self._fault = f"the file ends before block {number} of {len(self._ends) - 1} does"
        return [self._fault] if self._fault else []

    @property
    def _is_open(self) -> bool:
        """Whether there is a border still to come, and none was wrong."""
        return self._fault is None and self._next < len(self._ends)
