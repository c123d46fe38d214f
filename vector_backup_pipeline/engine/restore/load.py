"""One stored table into one table of the target, over one or several connections.

    block 1 ─▶ decompress ─▶ [filter] ─▶ connection 1: COPY ─┐
    block n ─▶ decompress ─▶ [filter] ─▶ connection n: COPY ─┴▶ progress ─▶ the caller's thread

Each connection runs one COPY, which takes the next block until none is left; so all connections
finish together. The blocks are those of all files of a chain; the filter drops the rows that later
sets have changed or removed. The caller's thread reports progress. The caller commits.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from itertools import islice
from typing import NamedTuple, TypeAlias

from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import Identifier

from vector_backup_pipeline.engine import older_system
from vector_backup_pipeline.engine.errors import BackupError, IntegrityError
from vector_backup_pipeline.engine.formats.row_formats import row_format
from vector_backup_pipeline.engine.incremental.chain import Part
from vector_backup_pipeline.engine.manifest import Block
from vector_backup_pipeline.engine.postgres.connection import Connection, database_errors
from vector_backup_pipeline.engine.postgres.copy_in import copy_rows, skip_or_replace
from vector_backup_pipeline.engine.progress import ProgressListener, ProgressMeter
from vector_backup_pipeline.engine.restore.plan import PlannedTable
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.stored_files import read_blocks, unpack, unpack_rows
from vector_backup_pipeline.engine.stream_threads import StreamThreads
from vector_backup_pipeline.parameters.restore import RestoreParameters

# Rows of an older system's file that are sent to the driver at once.
_ROWS_AT_ONCE = 100
_DUPLICATE_ADVICE = (
    "The table already has rows with keys of the backup. Set on_conflict to skip or replace, or "
    "truncate_before_restore to true."
)


class Sent(NamedTuple):
    """Rows that a connection has sent, and stored bytes that it has read."""

    rows: int
    size: int


_Emit: TypeAlias = Callable[[Sent], None]
# What one connection sends to COPY.
_Chunks: TypeAlias = Callable[[_Emit], Iterator[bytes]]


def check_older_file(directory: BackupDirectory, table: PlannedTable) -> None:
    """Read a file of the older system completely, before any lock. Only the target shows which of
    its columns are JSON.

    Raises:
        IntegrityError: rows can't be read; the message has their lines.
    """
    if not table.stored.data.has_digest:
        name, json_columns = table.stored.file, table.json_columns
        older_system.examine_file(directory, name, json_columns).check_readable(directory)


def load_table(
    connections: Sequence[Connection],
    directory: BackupDirectory,
    table: PlannedTable,
    into: tuple[str, str],
    request: RestoreParameters,
    listener: ProgressListener,
) -> int:
    """Load `table` into the table named `into`; returns the number of rows that were written.

    Raises:
        BackupError: the transactions of all connections have to be rolled back.
    """
    written: list[int] = []

    action = f"restore {table.table}"
    advice = _DUPLICATE_ADVICE if request.on_conflict == "fail" else None

    def work(connection: Connection, threads: StreamThreads[Sent]) -> None:
        secrets = connection.settings.secrets
        with (
            database_errors(action, secrets, advice),
            connection.cursor() as cursor,
            closing(_until(threads.stopped, chunks(threads.emit))) as rows,
        ):
            written.append(_write(cursor, table, into, request, rows))

    meter = ProgressMeter(table.table, table.stored.size, listener)
    rows_sent = 0
    with ExitStack() as opened:
        chunks, most_streams = _chunks(directory, table, request, opened)
        streams = StreamThreads(connections[:most_streams], work, "vector-backup-load")
        threads = opened.enter_context(streams)
        for sent in threads:
            meter.advance(sent.size)
            meter.add(sent.rows, sent.size)
            rows_sent += sent.rows
    if table.stored.data.has_digest and rows_sent != table.stored.rows:
        raise IntegrityError(
            f"The files of {table.table} have {rows_sent} of its {table.stored.rows} rows. "
            "Everything is rolled back. Restore another set."
        )
    meter.finish(sum(written))
    return sum(written)


def _write(
    cursor: Cursor,
    table: PlannedTable,
    into: tuple[str, str],
    request: RestoreParameters,
    chunks: Iterator[bytes],
) -> int:
    target, form = Identifier(*into), table.stored.form.name
    if request.on_conflict == "fail" or table.existing is None:  # A new table has no conflicts.
        return copy_rows(cursor, target, table.columns, form, chunks, table.where)
    return skip_or_replace(
        cursor,
        target,
        table.columns,
        table.key() or (),
        form,
        chunks,
        table.where,
        replaces=request.on_conflict == "replace",
    )


def _chunks(
    directory: BackupDirectory, table: PlannedTable, request: RestoreParameters, opened: ExitStack
) -> tuple[_Chunks, int]:
    """What each connection sends, and how many connections can share the files, which are closed
    with `opened`."""
    stored = table.stored
    if not stored.data.has_digest:
        return lambda emit: _older_records(directory, table, emit), 1
    if not request.loads_every_row_as_it_is:
        return lambda emit: _as_copy(table, _whole_files(directory, stored.parts, emit)), 1
    blocks, lock = opened.enter_context(closing(_blocks(directory, stored.parts))), threading.Lock()

    def chunks(emit: _Emit) -> Iterator[bytes]:
        while True:
            with lock:
                item = next(blocks, None)
            if item is None:
                return
            yield from _block(directory, *item, emit)

    number = sum(len(part.data.blocks) for part in stored.parts)
    return lambda emit: _as_copy(table, chunks(emit)), max(1, number)


def _as_copy(table: PlannedTable, rows: Iterator[bytes]) -> Iterator[bytes]:
    """The rows as COPY reads them: without the CSV header, which names the columns."""
    form = table.stored.form
    if form.trailer:
        yield form.header(table.columns)
    yield from rows
    if form.trailer:
        yield form.trailer


def _blocks(
    directory: BackupDirectory, parts: Sequence[Part]
) -> Generator[tuple[Part, Block, Iterator[bytes]], None, None]:
    """The blocks of all parts, each with its bytes before encryption. In an encrypted file, which
    can be read only as a whole, these are read here: at most about 8 MiB, unless a row is longer.
    """
    for part in parts:
        if part.data.encryption is None:
            for block in part.data.blocks:
                yield part, block, directory.read(part.data.name, block.offset, block.length)
        else:
            for block, plain in read_blocks(directory, part.data):
                yield part, block, iter(list(plain))


def _block(
    directory: BackupDirectory, part: Part, block: Block, plain: Iterator[bytes], emit: _Emit
) -> Iterator[bytes]:

    def report(chunk: bytes) -> None:
        emit(Sent(0, len(chunk)))

    if part.digests is None:
        yield from unpack(directory, part.data, plain, report)
        emit(Sent(block.rows, 0))
        return
    line_end = b"\n" * row_format(part.data.format).line_end
    for rows in unpack_rows(directory, part.data, plain, report):
        wanted = part.wanted(rows)
        if wanted:
            yield line_end.join([*wanted, b""])
            emit(Sent(len(wanted), 0))


def _whole_files(directory: BackupDirectory, parts: Sequence[Part], emit: _Emit) -> Iterator[bytes]:
    """The wanted rows of all blocks. The SHA-256 of each file is compared again, since the target's
    rows have no comparable digest."""
    for part in parts:
        for block, plain in read_blocks(directory, part.data):
            yield from _block(directory, part, block, plain, emit)


def _older_records(directory: BackupDirectory, table: PlannedTable, emit: _Emit) -> Iterator[bytes]:
    rows = older_system.read_rows(directory, table.stored.file)
    records = older_system.as_csv_records(
        rows, table.columns, table.json_columns, table.not_null_columns
    )
    while some := list(islice(records, _ROWS_AT_ONCE)):
        chunk = b"".join(some)
        yield chunk
        emit(Sent(len(some), len(chunk)))


def _until(stopped: threading.Event, chunks: Iterator[bytes]) -> Generator[bytes, None, None]:
    """The chunks. After `stopped`, an error, which ends the COPY."""
    for chunk in chunks:
        if stopped.is_set():
            raise BackupError("The load was stopped.")
        yield chunk
