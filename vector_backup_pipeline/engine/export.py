"""One table into one file: several connections read ranges, one writer hashes and stores.

    worker 1: ranges ─▶ records ─▶ blocks ─┐
    worker n: ranges ─▶ records ─▶ blocks ─┴▶ bounded queue ─▶ writer: hash, append, index

The caller's thread is the writer, so an interrupt (which Python raises there) ends everything: the
workers' queries are cancelled, their threads joined, the file discarded.
"""

from __future__ import annotations

import contextlib
import hashlib
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import psycopg2

from vector_backup_pipeline.engine.errors import IntegrityError
from vector_backup_pipeline.engine.formats.block_index import BlockIndex, IndexEntry
from vector_backup_pipeline.engine.formats.blocks import DIGEST_MODULUS, BlockBuilder, RowBlock
from vector_backup_pipeline.engine.formats.csv import csv_record
from vector_backup_pipeline.engine.postgres.connection import (
    Connection,
    cancel_quietly,
    database_errors,
)
from vector_backup_pipeline.engine.postgres.copy_out import copy_range, fetch_range
from vector_backup_pipeline.engine.postgres.ranges import BlockRange, cut_into_ranges
from vector_backup_pipeline.engine.postgres.snapshot import PinnedSnapshot
from vector_backup_pipeline.engine.postgres.tables import TableSource
from vector_backup_pipeline.engine.progress import ProgressListener, ProgressMeter
from vector_backup_pipeline.engine.storage.contract import BackupDirectory, PendingFile

# Two a worker keep every core busy; each is one block of memory.
_QUEUED_BLOCKS_PER_WORKER = 2
# How often a worker that waits for room looks whether the export was given up.
_STOP_CHECK_SECONDS = 0.1
_CANCEL_EVERY_SECONDS = 0.5


@dataclass(frozen=True)
class ExportOptions:
    """How rows are fetched: `method` is `copy` or `cursor`; `batch_size` rows at most a fetch."""

    method: str
    batch_size: int


@dataclass(frozen=True)
class StoredTable:
    """A finished file. `digest` is the sum modulo 2^128 over its rows, `duration` in seconds."""

    name: str
    rows: int
    size: int
    sha256: str
    digest: int
    duration: float
    index: list[IndexEntry]


def export_table(
    pinned: PinnedSnapshot,
    table: TableSource,
    directory: BackupDirectory,
    file_name: str,
    options: ExportOptions,
    listener: ProgressListener,
) -> StoredTable:
    """Write every row that `table` has in the snapshot to `file_name`, durable and counted.

    Raises:
        DatabaseError, PermissionDenied, StorageError, IntegrityError: no file is left; the
        snapshot stays usable for other tables unless its connections are gone.
    """
    started = time.monotonic()
    ranges = cut_into_ranges(table)
    blocks = sum(relation.blocks for relation in table.relations)
    meter = ProgressMeter(
        table.found.requested, blocks, len(ranges), table.estimated_rows, listener
    )
    with (
        directory.create(file_name) as file,
        _RangeReaders(pinned, table, ranges, options) as readers,
    ):
        writer = _Writer(file, header=csv_record(table.columns))
        for item in readers.blocks():
            if isinstance(item, BlockRange):
                meter.range_done(item.blocks)
            else:
                writer.append(item)
                meter.wrote(item.rows, len(item.data))
        file.commit()
    meter.finish()
    return writer.stored(file_name, time.monotonic() - started)


class _Writer:
    """Hashes, appends and indexes blocks, in whatever order they come."""

    def __init__(self, file: PendingFile, header: bytes) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        self._index = BlockIndex(start=len(header))
        self._rows = 0
        self._digest = 0
        self._size = 0
        self._store(header)

    def append(self, block: RowBlock) -> None:
        self._store(block.data)
        self._index.add(len(block.data), block.rows)
        self._rows += block.rows
        self._digest = (self._digest + block.digest) % DIGEST_MODULUS

    def stored(self, name: str, duration: float) -> StoredTable:
        return StoredTable(
            name=name,
            rows=self._rows,
            size=self._size,
            sha256=self._sha256.hexdigest(),
            digest=self._digest,
            duration=duration,
            index=self._index.entries(),
        )

    def _store(self, data: bytes) -> None:
        self._sha256.update(data)
        self._file.write(data)
        self._size += len(data)


class _RangeReaders:
    """Threads that read ranges, one connection each; a context that never leaves one behind."""

    def __init__(
        self,
        pinned: PinnedSnapshot,
        table: TableSource,
        ranges: Sequence[BlockRange],
        options: ExportOptions,
    ) -> None:
        self._table = table
        self._options = options
        self._secrets = pinned.settings.secrets
        self._streams = pinned.streams()[: len(ranges)]
        self._ranges: queue.SimpleQueue[BlockRange] = queue.SimpleQueue()
        for item in ranges:
            self._ranges.put(item)
        room = _QUEUED_BLOCKS_PER_WORKER * len(self._streams)
        self._output: queue.Queue[RowBlock | BlockRange | _Ended] = queue.Queue(room)
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(stream,), name=f"vector-backup-export-{n}")
            for n, stream in enumerate(self._streams)
        ]

    def __enter__(self) -> _RangeReaders:
        try:
            for thread in self._threads:
                thread.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread, stream in zip(self._threads, self._streams, strict=True):
            while thread.is_alive():
                # Again and again: a cancel that arrives between two statements cancels nothing.
                cancel_quietly(stream)
                thread.join(_CANCEL_EVERY_SECONDS)

    def blocks(self) -> Iterator[RowBlock | BlockRange]:
        """Blocks as they come; a range once all its blocks have come. Raises a worker's error."""
        running = len(self._threads)
        while running:
            item = self._output.get()
            if not isinstance(item, _Ended):
                yield item
            elif item.error is not None:
                raise item.error
            else:
                running -= 1

    def _run(self, stream: Connection) -> None:
        ended = _Ended(None)
        try:
            with database_errors(f"export {self._table.found.requested}", self._secrets):
                self._read_ranges(stream)
        except BaseException as error:  # noqa: BLE001 - kept for the caller's thread, which raises it.
            ended = _Ended(error)
        self._put(ended)

    def _read_ranges(self, stream: Connection) -> None:
        with _savepoint(stream):
            while not self._stop.is_set():
                try:
                    rows = self._ranges.get_nowait()
                except queue.Empty:
                    return
                self._read(stream, rows)
                self._put(rows)

    def _read(self, stream: Connection, rows: BlockRange) -> None:
        columns = self._table.columns
        builder = BlockBuilder(self._put)
        if self._options.method == "copy":
            expected = copy_range(stream, rows, columns, builder)
            builder.flush()
            self._check_count(builder.rows, expected)
        else:
            for values in fetch_range(stream, rows, columns, self._options.batch_size):
                builder.write(csv_record(values))
                if self._stop.is_set():
                    return
            builder.flush()

    def _check_count(self, received: int, expected: int) -> None:
        if received != expected and not self._stop.is_set():
            raise IntegrityError(
                f"The server sent {expected} rows of {self._table.found.requested} in {received} "
                "messages: something between it and this process rewrites the COPY stream. Use "
                "export_method 'cursor'."
            )

    def _put(self, item: RowBlock | BlockRange | _Ended) -> None:
        """Hand an item to the writer; once the export is given up, let it go.

        A block is then dropped rather than refused with an exception, which would leave the
        connection in the middle of a COPY: the cancelled query ends it properly.
        """
        while not self._stop.is_set():
            with contextlib.suppress(queue.Full):
                self._output.put(item, timeout=_STOP_CHECK_SECONDS)
                return


@dataclass(frozen=True)
class _Ended:
    """A worker is done, or ended with `error`."""

    error: BaseException | None


@contextlib.contextmanager
def _savepoint(stream: Connection) -> Iterator[None]:
    """Keep the stream's transaction, and with it the snapshot, alive through an error."""
    with stream.cursor() as cursor:
        cursor.execute("SAVEPOINT export")
        try:
            yield
        except BaseException:
            try:
                cursor.execute("ROLLBACK TO SAVEPOINT export")
            except psycopg2.Error:
                # Gone, or in an unknown state: the other streams carry on without it.
                stream.close()
            raise
        cursor.execute("RELEASE SAVEPOINT export")
