"""Reading a table's ranges over several connections at once, as blocks of whole rows."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypeVar

import psycopg2

from vector_backup_pipeline.engine.errors import IntegrityError
from vector_backup_pipeline.engine.formats.blocks import BlockBuilder, RowBlock
from vector_backup_pipeline.engine.formats.compression import Pack
from vector_backup_pipeline.engine.formats.csv import csv_record
from vector_backup_pipeline.engine.formats.row_formats import RowFormat
from vector_backup_pipeline.engine.postgres.connection import Connection, database_errors
from vector_backup_pipeline.engine.postgres.copy_out import copy_range, fetch_range
from vector_backup_pipeline.engine.postgres.ranges import BlockRange
from vector_backup_pipeline.engine.postgres.session import physical_order
from vector_backup_pipeline.engine.stream_threads import StreamThreads

_T = TypeVar("_T")

# Two per worker keep every core busy; each is one block of memory.
_QUEUED_BLOCKS_PER_WORKER = 2

# A block of rows; or a range, when all its blocks have been emitted.
ReadItem: TypeAlias = RowBlock | BlockRange


@dataclass(frozen=True)
class ReadJob:
    """`columns` of the rows in `ranges`, to be read in that `form`. With `batch_size`, through a
    server-side cursor with at most that many rows per fetch, else by COPY. `name` and `secrets` are
    for messages.

    `files` has a local file for each range, if something is to be written for each row: then rows
    are read in the order of their blocks.
    """

    name: str
    columns: tuple[str, ...]
    ranges: Sequence[BlockRange]
    form: RowFormat
    secrets: tuple[str, ...]
    batch_size: int | None = None
    files: Mapping[BlockRange, Path] | None = None


def read_ranges(
    streams: Sequence[Connection],
    job: ReadJob,
    make_pack: Callable[[], Pack] = lambda: lambda data: data,
) -> StreamThreads[ReadItem]:
    """Threads that take range after range until none is left; `make_pack` makes each thread's
    compressor. The job's `files` get the digests of the rows."""
    ranges = _queue(job)

    def work(stream: Connection, threads: StreamThreads[ReadItem]) -> None:
        pack = make_pack()

        def emit(block: RowBlock) -> None:
            threads.emit(RowBlock(pack(block.data), block.rows, block.digest))

        with _reading(stream, job):
            for rows in _taken(ranges, threads):
                with job.files[rows].open("w") if job.files else contextlib.nullcontext() as file:
                    builder = BlockBuilder(emit, job.form, file)
                    _read_range(stream, job, rows, builder, threads)
                threads.emit(rows)

    streams = streams[: len(job.ranges)]
    queued = _QUEUED_BLOCKS_PER_WORKER * len(streams)
    return StreamThreads(streams, work, "vector-backup-read", queued)


def scan_keys(streams: Sequence[Connection], job: ReadJob) -> StreamThreads[BlockRange]:
    """Threads that write the columns of each range to its file as CSV, and emit the range."""
    ranges, files = _queue(job), job.files or {}

    def work(stream: Connection, threads: StreamThreads[BlockRange]) -> None:
        with _reading(stream, job):
            for rows in _taken(ranges, threads):
                with files[rows].open("wb") as file:
                    if job.batch_size is None:
                        copy_range(stream, rows, job.columns, job.form.name, file)
                    else:
                        values = fetch_range(stream, rows, job.columns, job.batch_size)
                        file.writelines(map(csv_record, values))
                threads.emit(rows)

    return StreamThreads(streams[: len(job.ranges)], work, "vector-backup-scan")


def _queue(job: ReadJob) -> queue.SimpleQueue[BlockRange]:
    ranges: queue.SimpleQueue[BlockRange] = queue.SimpleQueue()
    for rows in job.ranges:
        ranges.put(rows)
    return ranges


def _taken(
    ranges: queue.SimpleQueue[BlockRange], threads: StreamThreads[_T]
) -> Iterator[BlockRange]:
    """Range after range, until none is left or the threads are stopped."""
    with contextlib.suppress(queue.Empty):
        while not threads.stopped.is_set():
            yield ranges.get_nowait()


def _read_range(
    stream: Connection,
    job: ReadJob,
    rows: BlockRange,
    builder: BlockBuilder,
    threads: StreamThreads[ReadItem],
) -> None:
    if job.batch_size is not None:
        for values in fetch_range(stream, rows, job.columns, job.batch_size):
            builder.write(csv_record(values))
            del values  # It may be large; do not keep it while waiting for the next row.
            if threads.stopped.is_set():
                return
        builder.flush()
        return
    expected = copy_range(stream, rows, job.columns, job.form.name, builder)
    builder.flush()
    is_whole = builder.rows == expected and builder.can_end
    if not is_whole and not threads.stopped.is_set():
        raise IntegrityError(
            f"The server sent {expected} rows of {job.name} in {builder.rows} messages: something "
            "between it and this process rewrites the COPY stream. Use export_method 'cursor'."
        )


@contextlib.contextmanager
def _reading(stream: Connection, job: ReadJob) -> Iterator[None]:
    """Keep the stream's transaction, and with it the snapshot, alive through an error."""
    with database_errors(f"read {job.name}", job.secrets), stream.cursor() as cursor:
        cursor.execute("SAVEPOINT reading")
        try:
            with physical_order(cursor) if job.files else contextlib.nullcontext():
                yield
        except BaseException:
            try:
                cursor.execute("ROLLBACK TO SAVEPOINT reading")
            except psycopg2.Error:
                # Lost or in an unknown state: the other streams continue without it.
                stream.close()
            raise
        cursor.execute("RELEASE SAVEPOINT reading")
