"""Stored files: their rows, and whether they are still what was written. Needs the file and its
entry in the manifest, nothing else."""

import hashlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from itertools import chain
from typing import NamedTuple

from vector_backup_pipeline.engine.cancellation import check
from vector_backup_pipeline.engine.encryption import IDENTITY_VARIABLE, Undecryptable
from vector_backup_pipeline.engine.errors import IntegrityError, InvalidParams
from vector_backup_pipeline.engine.formats.blocks import DIGEST_MODULUS, digest_of
from vector_backup_pipeline.engine.formats.compression import UnreadableFrame, codec
from vector_backup_pipeline.engine.formats.csv_records import LONGEST_RECORD, UnfinishedRecord
from vector_backup_pipeline.engine.formats.row_formats import row_format
from vector_backup_pipeline.engine.manifest import Block, DataFile, KeyFile
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

    def differences(self, file: DataFile | KeyFile) -> list[str]:
        return [
            *_difference("size in bytes", self.size, file.bytes),
            *_difference("SHA-256", self.sha256, file.sha256),
        ]


def check_identity(directory: BackupDirectory, file: DataFile | KeyFile) -> None:
    """Check that an encrypted file can be decrypted; only its beginning is read.

    Raises:
        InvalidParams: there is no identity, or none of a recipient.
        IntegrityError: the file is damaged.
        ResourceNotFound, StorageError: it cannot be read.
    """
    if file.encryption is None:
        return
    try:
        stored = directory.read(file.name)
        with closing(_cut_at([], read_plain(directory, file, stored))) as chunks:
            next(chunks, None)
    except Undecryptable as error:
        check_stored_file(directory, file)  # The recipients are in it, and may be damaged.
        raise InvalidParams(
            f"{directory.location}/{file.name} is not encrypted to any identity in "
            f"{IDENTITY_VARIABLE}.",
            "Add the identity of one of its recipients to that file.",
        ) from error


def read_plain(
    directory: BackupDirectory, file: DataFile | KeyFile, stored: Iterator[bytes]
) -> Iterator[bytes]:
    """The chunks of a complete file as it was before encryption, from those that are `stored`.

    Raises:
        InvalidParams: it is encrypted, and there is no identity.
        Undecryptable: it cannot be decrypted.
    """
    if file.encryption is None:
        return stored
    return directory.encryption.decrypted(stored, f"{directory.location}/{file.name}")


def read_blocks(
    directory: BackupDirectory, file: DataFile
) -> Iterator[tuple[Block, Iterator[bytes]]]:
    """All blocks of a file that is read as a whole, each with its bytes before encryption, which
    are to be consumed before the next one. Raises as `read_plain`, and at the end an
    `IntegrityError` if the SHA-256 of the file is not the manifest's."""
    stored = StoredBytes(directory, file.name)
    begin = _begin_of_rows(file)
    cuts = [begin, *(block.offset + block.length for block in file.blocks)]
    chunks = _cut_at(cuts, read_plain(directory, file, stored.chunks()))
    for _ in _take(begin, chunks):
        pass
    for block in file.blocks:
        yield block, _take(block.length, chunks)
    for _ in chunks:
        pass
    if stored.sha256 != file.sha256:
        raise IntegrityError(
            f"{directory.location}/{file.name} changed while it was being loaded. Check the disk, "
            "and use another set."
        )


def unpack(
    directory: BackupDirectory,
    file: DataFile,
    plain: Iterable[bytes],
    on_chunk: Callable[[bytes], None] = lambda _: None,
) -> Iterator[bytes]:
    """The bytes of a file, or of a block's rows, decompressed, in chunks of about a MiB, none
    empty. `plain` are the bytes before encryption; `on_chunk` gets each chunk of them before its
    rows are yielded.

    Raises:
        IntegrityError: they cannot be decompressed, or end too early.
    """
    unpacker = codec(file.compression).unpacker()
    try:
        for chunk in plain:
            check()
            on_chunk(chunk)
            yield from unpacker.feed(chunk)
    except UnreadableFrame as error:
        raise _unreadable(directory, file, error) from error
    if not unpacker.is_between_frames:
        raise _unreadable(directory, file, _CUT)


def unpack_rows(
    directory: BackupDirectory,
    file: DataFile,
    plain: Iterable[bytes],
    on_chunk: Callable[[bytes], None] = lambda _: None,
) -> Iterator[list[bytes]]:
    """A block's rows, as the content digest takes them, in lists. Parameters and errors as in
    `unpack`."""
    form = row_format(file.format)
    splitter = form.splitter(LONGEST_RECORD)
    chunks = unpack(directory, file, plain, on_chunk)
    try:
        for chunk in chain([form.header(file.digest.columns)], chunks, [form.trailer]):
            yield splitter.feed(chunk)
        splitter.finish()
    except UnfinishedRecord as error:
        raise _unreadable(directory, file, error) from error


def read_header(directory: BackupDirectory, file: DataFile) -> bytes:
    """The bytes before the first row. Raises as `read_plain` and `unpack`."""
    begin = _begin_of_rows(file)
    stored = directory.read(file.name, 0, None if file.encryption else begin)
    with closing(_cut_at([begin], read_plain(directory, file, stored))) as chunks:
        data = b"".join(unpack(directory, file, _take(begin, chunks)))
    trailer = row_format(file.format).trailer
    return data.removesuffix(trailer) if trailer and not file.blocks else data


def check_stored_size(directory: BackupDirectory, file: DataFile | KeyFile) -> None:
    """Compare the size of the file; nothing is read. Raises as `check_stored_file`."""
    size = directory.stat(file.name).size
    _check(directory, file.name, _difference("size in bytes", size, file.bytes))


def check_stored_file(directory: BackupDirectory, file: DataFile | KeyFile) -> None:
    """Read the complete file and compare its size and hash. An encrypted one is not decrypted.

    Raises:
        IntegrityError: they differ.
        ResourceNotFound, StorageError: it cannot be read.
    """
    stored = StoredBytes(directory, file.name)
    for _ in stored.chunks():
        pass
    _check(directory, file.name, stored.differences(file))


def read_checked(directory: BackupDirectory, file: DataFile | KeyFile) -> Iterator[bytes]:
    """The chunks of a complete file as it was before encryption. After the last one, the file is
    compared as in `check_stored_file`. Raises as that does, and as `check_identity`."""
    check_identity(directory, file)
    stored = StoredBytes(directory, file.name)
    yield from read_plain(directory, file, stored.chunks())
    _check(directory, file.name, stored.differences(file))


def check_rows(directory: BackupDirectory, file: DataFile) -> None:
    """Read a stored file once, and compare it with its entry in the manifest: size, SHA-256,
    header, number of rows, content digest, and the block index.

    Raises:
        IntegrityError: names all that differs, with the actual and the expected value.
        InvalidParams: it is encrypted, and there is no identity of a recipient.
        ResourceNotFound, StorageError: the file cannot be read.
    """
    check_identity(directory, file)
    stored = StoredBytes(directory, file.name)
    chunks = stored.chunks()
    plain = read_plain(directory, file, chunks)
    row_faults = list(_row_faults(plain, file))
    # Size and hash are those of the whole file, also after unreadable rows.
    with suppress(Undecryptable):
        for _ in plain:
            pass
    for _ in chunks:
        pass
    _check(directory, file.name, [*stored.differences(file), *row_faults])


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
        end + trailer == file.plain_size
        if is_plain
        else not file.blocks or (end < file.plain_size if trailer else end == file.plain_size)
    )
    if not has_right_end or rows != file.rows:
        return (
            f"the blocks end at byte {end} and hold {rows} rows, expected byte "
            f"{file.plain_size - (trailer if is_plain else 0)} and {file.rows} rows"
        )
    return None


def _row_faults(chunks: Iterator[bytes], file: DataFile) -> Iterator[str]:
    counter = _RowCounter(file)
    fault = contradiction(file)
    ends = [] if fault else _block_ends(file)
    try:
        for piece in _cut_at([end.offset for end in ends], chunks):
            counter.feed(piece)
            if ends and ends[0].offset == counter.bytes:
                fault = fault or counter.fault_at(ends.pop(0))
        if ends and fault is None:
            fault = f"the file ends before {ends[0].name} of {len(file.blocks)} blocks does"
        counter.finish()
    except (UnfinishedRecord, UnreadableFrame) as error:
        yield str(error)
    except Undecryptable:
        yield "it cannot be decrypted"
    if file.encryption is not None:
        yield from _difference("size before encryption", counter.bytes, file.plain_size)
    yield from _difference("the number of rows", counter.rows, file.rows)
    if file.has_digest:
        if counter.splitter.header != row_format(file.format).header(file.digest.columns):
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


class _BlockEnd(NamedTuple):
    """A byte offset where a row and a frame must end, after `rows` rows."""

    name: str
    offset: int
    rows: int


def _block_ends(file: DataFile) -> list[_BlockEnd]:
    if not file.blocks:
        return []
    ends, rows = [_BlockEnd("the header", file.blocks[0].offset, 0)], 0
    for number, block in enumerate(file.blocks, 1):
        rows += block.rows
        ends.append(_BlockEnd(f"block {number}", block.offset + block.length, rows))
    return ends


def _cut_at(offsets: list[int], chunks: Iterable[bytes]) -> Generator[bytes, None, None]:
    """The same bytes, with cuts at these offsets."""
    end = 0
    for chunk in chunks:
        begin, end = end, end + len(chunk)
        while offsets and offsets[0] < end:
            offset = offsets.pop(0)
            yield chunk[: offset - begin]
            chunk, begin = chunk[offset - begin :], offset
        yield chunk


def _take(size: int, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The next `size` bytes of chunks that are cut there."""
    while size > 0 and (chunk := next(chunks, None)) is not None:
        size -= len(chunk)
        yield chunk


def _begin_of_rows(file: DataFile) -> int:
    return file.blocks[0].offset if file.blocks else file.plain_size


class _RowCounter:
    """Counts and hashes the rows of a stored file."""

    def __init__(self, file: DataFile) -> None:
        form, longest = row_format(file.format), LONGEST_RECORD
        if file.compression == "none" and file.has_digest:
            # No row is longer than its block; a longer one would only fill the memory.
            longest = max((block.length for block in file.blocks), default=0)
            longest += len(form.header(file.digest.columns))
        self._unpacker = codec(file.compression).unpacker()
        self.splitter = form.splitter(longest)
        self.bytes = 0
        self.rows = 0
        self.digest = 0

    def feed(self, stored: bytes) -> None:
        """Raises `UnreadableFrame`, `UnfinishedRecord`."""
        self.bytes += len(stored)
        for data in self._unpacker.feed(stored):
            rows = self.splitter.feed(data)
            self.rows += len(rows)
            self.digest += digest_of(rows)

    def fault_at(self, end: _BlockEnd) -> str | None:
        if not self._unpacker.is_between_frames or self.splitter.begun:
            return f"{end.name} does not end where a row ends, at byte {end.offset}"
        if self.rows != end.rows:
            return f"{self.rows} rows end with {end.name}, expected {end.rows}"
        return None

    def finish(self) -> None:
        self.splitter.finish()
        if not self._unpacker.is_between_frames:
            raise UnreadableFrame(_CUT)


def _difference(what: str, actual: object, expected: object) -> list[str]:
    return [] if actual == expected else [f"{what} is {actual}, expected {expected}"]


def _check(directory: BackupDirectory, name: str, faults: Sequence[str]) -> None:
    if faults:
        raise IntegrityError(
            f"{directory.location}/{name} is damaged: {'; '.join(faults)}. Check the "
            "disk, use another set, and make a new backup."
        )


def _unreadable(directory: BackupDirectory, file: DataFile, reason: object) -> IntegrityError:
    return IntegrityError(
        f"{directory.location}/{file.name} cannot be read: {reason}. Check the disk, and take this "
        "table from another set."
    )
