"""Stored files: their rows, and whether they are still what was written. Needs the file and its
entry in the manifest, nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator

from vector_backup_pipeline.engine.cancellation import check
from vector_backup_pipeline.engine.errors import IntegrityError
from vector_backup_pipeline.engine.formats.blocks import DIGEST_MODULUS, digest_of
from vector_backup_pipeline.engine.formats.compression import UnreadableFrame, codec
from vector_backup_pipeline.engine.formats.csv_records import LONGEST_RECORD, UnfinishedRecord
from vector_backup_pipeline.engine.formats.row_formats import row_format
from vector_backup_pipeline.engine.manifest import Block, DataFile
from vector_backup_pipeline.engine.storage.directory import BackupDirectory

_CUT = "its compressed data ends in the middle"


class StoredBytes:
    """A stored file while it is read: its chunks, and the size and SHA-256 of those read so far."""

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


def read_block(
    directory: BackupDirectory,
    file: DataFile,
    block: Block,
    on_stored: Callable[[bytes], None] = lambda _: None,
) -> Iterator[bytes]:
    """The bytes of a block's rows, decompressed, in chunks of about a MiB, none empty.

    `on_stored` gets each stored chunk before its rows are yielded.

    Raises:
        IntegrityError: they can't be decompressed, or end too early.
        ResourceNotFound, StorageError: the file can't be read.
    """

    def stored() -> Iterator[bytes]:
        for chunk in directory.read(file.name, block.offset, block.length):
            check()
            on_stored(chunk)
            yield chunk

    return _decompressed(directory, file, stored())


def read_header(directory: BackupDirectory, file: DataFile) -> bytes:
    """The bytes before the first row. Raises as `read_block`."""
    begin = file.blocks[0].offset if file.blocks else file.bytes
    data = b"".join(_decompressed(directory, file, directory.read(file.name, 0, begin)))
    trailer = row_format(file.format).trailer
    return data.removesuffix(trailer) if trailer and not file.blocks else data


def read_rows(directory: BackupDirectory, file: DataFile) -> Iterator[bytes]:
    """Each row, as the content digest takes it. Raises as `read_block`."""
    splitter = row_format(file.format).splitter()
    try:
        for chunk in _decompressed(directory, file, directory.read(file.name)):
            check()
            yield from splitter.feed(chunk)
        splitter.finish()
    except UnfinishedRecord as error:
        raise _unreadable(directory, file, error) from error


def check_stored_size(directory: BackupDirectory, name: str, size: int) -> None:
    """Compare the size of `name`; nothing is read.

    Raises:
        IntegrityError: it has another size.
        ResourceNotFound, StorageError: the size can't be read.
    """
    found = directory.stat(name).size
    if found != size:
        raise IntegrityError(
            f"{directory.location}/{name} has {found} bytes, and {size} were written. Look for "
            "what else writes there, and make a new backup."
        )


def check_stored_file(directory: BackupDirectory, name: str, size: int, sha256: str) -> None:
    """Read the complete file and compare its size and hash.

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


def check_rows(directory: BackupDirectory, file: DataFile) -> None:
    """Read a stored file once, and compare it with its entry in the manifest: size, SHA-256,
    header, number of rows, content digest, and the block index.

    Raises:
        IntegrityError: names all that differs, with what was found and what was expected.
        ResourceNotFound, StorageError: the file can't be read.
    """
    stored = StoredBytes(directory, file.name)
    chunks = stored.chunks()
    row_faults = list(_row_faults(chunks, file))
    for _ in chunks:  # What can't be read as rows belongs to size and hash all the same.
        pass
    faults = [
        *_difference("size in bytes", stored.size, file.bytes),
        *_difference("SHA-256", stored.sha256, file.sha256),
        *row_faults,
    ]
    if faults:
        raise IntegrityError(
            f"{directory.location}/{file.name} is not what was written: {'; '.join(faults)}. "
            "Check the disk, take this table from another set, and make a new backup."
        )


def contradiction(file: DataFile) -> str | None:
    """What is wrong with the entry by itself: its blocks must be all of the file between header and
    trailer, and hold its rows. A file of the older system has no blocks."""
    if not file.has_digest:
        return None
    form, is_plain = row_format(file.format), file.compression == "none"
    header, trailer = len(form.header(file.digest.columns)), len(form.trailer)
    # The length of a compressed header or trailer is known from the file alone.
    end = header if is_plain or not file.blocks else max(1, file.blocks[0].offset)
    for number, block in enumerate(file.blocks, 1):
        if block.offset != end or block.length < 1 or block.rows < 1:
            return (
                f"block {number} begins at byte {block.offset} with {block.length} bytes and "
                f"{block.rows} rows, expected byte {end}"
            )
        end += block.length
    rows = sum(block.rows for block in file.blocks)
    has_right_end = (
        end + trailer == file.bytes
        if is_plain
        else not file.blocks or (end < file.bytes if trailer else end == file.bytes)
    )
    if not has_right_end or rows != file.rows:
        return (
            f"the blocks end at byte {end} and hold {rows} rows, expected byte "
            f"{file.bytes - (trailer if is_plain else 0)} and {file.rows} rows"
        )
    return None


def _row_faults(chunks: Iterator[bytes], file: DataFile) -> Iterator[str]:
    counter = _RowCounter(chunks, file)
    fault = contradiction(file)
    try:
        if fault is None:
            fault = _first_wrong_block(counter, file)
        counter.read()
        counter.finish()
    except (UnfinishedRecord, UnreadableFrame) as error:
        yield str(error)
    yield from _difference("the number of rows", counter.rows, file.rows)
    if file.has_digest:
        if counter.header != row_format(file.format).header(file.digest.columns):
            # The actual beginning of the file is not shown, since it may be arbitrary bytes.
            is_csv = file.format == "csv"
            yield (
                "its first line does not name the manifest's columns"
                if is_csv
                else "it does not begin as a binary COPY does"
            )
        digest = f"{counter.digest % DIGEST_MODULUS:032x}"
        yield from _difference("the content digest", digest, file.digest.value)
    if fault is not None:
        yield fault


def _first_wrong_block(counter: _RowCounter, file: DataFile) -> str | None:
    """The block index is right if each block ends where a row and a frame end, after its rows."""
    if not file.blocks:
        return None
    end, rows = file.blocks[0].offset, 0
    counter.read(end)
    parts = [("the header", 0, 0)]
    parts += [(f"block {n}", block.length, block.rows) for n, block in enumerate(file.blocks, 1)]
    for name, length, rows_in_it in parts:
        end, rows = end + length, rows + rows_in_it
        counter.read(length)
        if counter.bytes < end:
            return f"the file ends before {name} of {len(file.blocks)} blocks does"
        if not counter.is_between_rows:
            return f"{name} does not end where a row ends, at byte {end}"
        if counter.rows != rows:
            return f"{counter.rows} rows end with {name}, expected {rows}"
    return None


class _RowCounter:
    """Reads a stored file piece by piece, and counts and hashes the rows in it."""

    def __init__(self, chunks: Iterator[bytes], file: DataFile) -> None:
        self._chunks = chunks
        self._chunk = b""
        self._unpacker = codec(file.compression).unpacker()
        self._splitter = row_format(file.format).splitter(_longest_row(file))
        self.bytes = 0
        self.rows = 0
        self.digest = 0

    @property
    def header(self) -> bytes:
        return self._splitter.header

    @property
    def is_between_rows(self) -> bool:
        return self._unpacker.is_between_frames and not self._splitter.begun

    def read(self, length: int | None = None) -> None:
        """Read the next `length` bytes, or all that are left. Raises `UnreadableFrame`,
        `UnfinishedRecord`."""
        end = None if length is None else self.bytes + length
        while end is None or self.bytes < end:
            self._chunk = self._chunk or next(self._chunks, b"")
            if not self._chunk:
                return
            piece = self._chunk if end is None else self._chunk[: end - self.bytes]
            self._chunk = self._chunk[len(piece) :]
            self.bytes += len(piece)
            for data in self._unpacker.feed(piece):
                rows = self._splitter.feed(data)
                self.rows += len(rows)
                self.digest += digest_of(rows)

    def finish(self) -> None:
        self._splitter.finish()
        if not self._unpacker.is_between_frames:
            raise UnreadableFrame(_CUT)


def _longest_row(file: DataFile) -> int:
    """In bytes. No row is longer than its block; a longer one would only fill the memory."""
    if file.compression != "none" or not file.has_digest:
        return LONGEST_RECORD
    longest = max((block.length for block in file.blocks), default=0)
    return longest + len(row_format(file.format).header(file.digest.columns))


def _difference(what: str, actual: object, expected: object) -> list[str]:
    return [] if actual == expected else [f"{what} is {actual}, expected {expected}"]


def _decompressed(
    directory: BackupDirectory, file: DataFile, stored: Iterable[bytes]
) -> Iterator[bytes]:
    unpacker = codec(file.compression).unpacker()
    try:
        for chunk in stored:
            yield from unpacker.feed(chunk)
    except UnreadableFrame as error:
        raise _unreadable(directory, file, error) from error
    if not unpacker.is_between_frames:
        raise _unreadable(directory, file, _CUT)


def _unreadable(directory: BackupDirectory, file: DataFile, reason: object) -> IntegrityError:
    return IntegrityError(
        f"{directory.location}/{file.name} can't be read: {reason}. Check the disk, and take this "
        "table from another set."
    )
