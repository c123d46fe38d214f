"""The rows of a stored table as its format has them, whatever they were compressed with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from vector_backup_pipeline.engine.cancellation import check
from vector_backup_pipeline.engine.errors import IntegrityError
from vector_backup_pipeline.engine.formats.compression import UnreadableFrame, codec
from vector_backup_pipeline.engine.formats.csv_records import UnfinishedRecord
from vector_backup_pipeline.engine.formats.row_formats import row_format
from vector_backup_pipeline.engine.manifest import Block, DataFile
from vector_backup_pipeline.engine.storage.contract import BackupDirectory


def read_block(
    directory: BackupDirectory,
    file: DataFile,
    block: Block,
    took: Callable[[bytes], None] = lambda _: None,
) -> Iterator[bytes]:
    """The bytes of a block's rows, in chunks of about a MiB, none empty.

    `took` hears of each stored chunk before what is in it is given.

    Raises:
        IntegrityError: they can't be decompressed, or end too early.
        ResourceNotFound, StorageError: the file can't be read.
    """
    stored = directory.read(file.name, block.offset, block.length)
    return _unpacked(directory, file, _telling(stored, took))


def read_header(directory: BackupDirectory, file: DataFile) -> bytes:
    """What stands before the first row. Raises as `read_block`."""
    begin = file.blocks[0].offset if file.blocks else file.bytes
    data = b"".join(_unpacked(directory, file, directory.read(file.name, 0, begin)))
    trailer = row_format(file.format).trailer
    return data.removesuffix(trailer) if trailer and not file.blocks else data


def read_rows(directory: BackupDirectory, file: DataFile) -> Iterator[bytes]:
    """Each row, as the content digest takes it. Raises as `read_block`."""
    splitter = row_format(file.format).splitter()
    try:
        for chunk in _unpacked(directory, file, directory.read(file.name)):
            check()
            yield from splitter.feed(chunk)
        splitter.finish()
    except UnfinishedRecord as error:
        raise _unreadable(directory, file, error) from error


def _telling(stored: Iterable[bytes], took: Callable[[bytes], None]) -> Iterator[bytes]:
    for chunk in stored:
        check()
        took(chunk)
        yield chunk


def _unpacked(
    directory: BackupDirectory, file: DataFile, stored: Iterable[bytes]
) -> Iterator[bytes]:
    unpacker = codec(file.compression).unpacker()
    try:
        for chunk in stored:
            yield from unpacker.feed(chunk)
    except UnreadableFrame as error:
        raise _unreadable(directory, file, error) from error
    if not unpacker.is_between_frames:
        raise _unreadable(directory, file, "its compressed data ends in the middle")


def _unreadable(directory: BackupDirectory, file: DataFile, why: object) -> IntegrityError:
    return IntegrityError(
        f"{directory.location}/{file.name} can't be read: {why}. Check the disk, and take this "
        "table from another set."
    )
