"""One stored table into one table of the target: several connections take blocks from one file.

    block 1 ─▶ connection 1: COPY ─┐
    block n ─▶ connection n: COPY ─┴▶ progress ─▶ the caller's thread

Each connection runs one COPY, which takes block after block as long as there are any; so all of
them finish together. The caller's thread waits and reports progress; when the run is canceled, it
joins the threads. Committing is the caller's.
"""

from __future__ import annotations

import contextlib
import hashlib
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import psycopg2
from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine import cancellation
from vector_backup_pipeline.engine.errors import IntegrityError
from vector_backup_pipeline.engine.formats.row_formats import row_format
from vector_backup_pipeline.engine.manifest import Block, DataFile
from vector_backup_pipeline.engine.postgres.connection import Connection, database_errors
from vector_backup_pipeline.engine.postgres.copy_in import RowStream
from vector_backup_pipeline.engine.progress import ProgressListener, ProgressMeter
from vector_backup_pipeline.engine.storage.contract import BackupDirectory
from vector_backup_pipeline.engine.stored_rows import read_block
from vector_backup_pipeline.engine.stream_threads import StreamThreads
from vector_backup_pipeline.parameters.types import Format

# Records of the older system's files are few bytes each; the driver takes them in larger pieces.
_RECORDS_BYTES = 1 << 18
# How often who waits looks whether it still should.
_LOOK_EVERY_SECONDS = 0.1


class Sent(NamedTuple):
    """Bytes of the file that a connection has sent on, and the rows that ended in them."""

    rows: int
    size: int


class RowSource(Protocol):
    """Where rows come from: each call of `chunks` gives one connection its share.

    `sent` is told after each piece that was handed on.
    """

    def chunks(self, sent: Callable[[Sent], None]) -> Iterator[bytes]: ...


class BlockSource:
    """The blocks of a stored file; every share takes the next one that is left."""

    def __init__(self, directory: BackupDirectory, file: DataFile) -> None:
        self._directory = directory
        self._file = file
        self._blocks: queue.SimpleQueue[Block] = queue.SimpleQueue()
        for block in file.blocks:
            self._blocks.put(block)

    def chunks(self, sent: Callable[[Sent], None]) -> Iterator[bytes]:
        return _as_copied(self._file, self._rows(sent))

    def _rows(self, sent: Callable[[Sent], None]) -> Iterator[bytes]:
        with contextlib.suppress(queue.Empty):
            while True:
                block = self._blocks.get_nowait()
                yield from _read_told(self._directory, self._file, block, sent)


class HashedSource:
    """A stored file from beginning to end, hashed on its way: for rows of which no digest can be
    taken in the target. One connection takes all of it."""

    def __init__(self, directory: BackupDirectory, file: DataFile) -> None:
        self._directory = directory
        self._file = file

    def chunks(self, sent: Callable[[Sent], None]) -> Iterator[bytes]:
        return _as_copied(self._file, self._rows(sent))

    def _rows(self, sent: Callable[[Sent], None]) -> Iterator[bytes]:
        file, blocks = self._file, self._file.blocks
        found = hashlib.sha256()
        begin = blocks[0].offset if blocks else file.bytes
        end = blocks[-1].offset + blocks[-1].length if blocks else file.bytes
        for chunk in self._directory.read(file.name, 0, begin):
            found.update(chunk)
        for block in blocks:
            yield from _read_told(self._directory, file, block, sent, found.update)
        for chunk in self._directory.read(file.name, end):
            found.update(chunk)
        if found.hexdigest() != self._file.sha256:
            raise IntegrityError(
                f"{self._directory.location}/{self._file.name} changed while it was being loaded. "
                "Everything is rolled back. Check the disk, and take another set."
            )


def _read_told(
    directory: BackupDirectory,
    file: DataFile,
    block: Block,
    sent: Callable[[Sent], None],
    took: Callable[[bytes], None] = lambda _: None,
) -> Iterator[bytes]:
    """A block's rows; `sent` hears of its stored bytes when they were handed on."""
    size = 0

    def count(stored: bytes) -> None:
        nonlocal size
        took(stored)
        size += len(stored)

    for chunk in read_block(directory, file, block, count):
        yield chunk
        if size:
            sent(Sent(0, size))
            size = 0
    sent(Sent(block.rows, size))


def _as_copied(file: DataFile, rows: Iterator[bytes]) -> Iterator[bytes]:
    """What one COPY reads: a header that names columns is ours, any other the format's own."""
    form = row_format(file.format)
    if form.trailer:
        yield form.header(file.digest.columns)
    yield from rows
    if form.trailer:
        yield form.trailer


class RecordSource:
    """CSV records that are made one after the other; one connection takes all of them."""

    def __init__(self, records: Iterator[bytes]) -> None:
        self._records = records

    def chunks(self, sent: Callable[[Sent], None]) -> Iterator[bytes]:
        gathered: list[bytes] = []
        size = 0
        for record in self._records:
            gathered.append(record)
            size += len(record)
            if size >= _RECORDS_BYTES:
                yield b"".join(gathered)
                sent(Sent(len(gathered), size))
                gathered, size = [], 0
        if gathered:
            yield b"".join(gathered)
            sent(Sent(len(gathered), size))


@dataclass(frozen=True)
class Loading:
    """What is loaded: `write` sends rows of that `form` to the server over a cursor and returns how
    many it wrote, over `most_streams` connections at most. `size` in bytes; `table` and `secrets`
    are for messages."""

    table: str
    size: int
    source: RowSource
    form: Format
    most_streams: int
    write: Callable[[Cursor, RowStream], int]
    secrets: tuple[str, ...]


def load_rows(
    connections: Sequence[Connection], loading: Loading, listener: ProgressListener
) -> int:
    """Load over all `connections` at once; the rows that were written.

    Raises:
        DatabaseError and its like: the transactions of all connections are to be rolled back.
    """
    meter = ProgressMeter(loading.table, loading.size, listener)
    with _Loaders(connections, loading) as loaders:
        for rows, size in loaders.progress():
            meter.advance(size)
            meter.add(rows, size)
    meter.finish(loaders.rows)
    return loaders.rows


class _Loaders:
    """Threads with one COPY each; a context that never leaves one behind."""

    def __init__(self, connections: Sequence[Connection], loading: Loading) -> None:
        self._loading = loading
        self._events: queue.SimpleQueue[Sent | _Ended] = queue.SimpleQueue()
        self._threads = StreamThreads(connections, self._run, "vector-backup-load")
        self.rows = 0

    def __enter__(self) -> _Loaders:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.end()

    def progress(self) -> Iterator[Sent]:
        """What is sent as it is sent, until all have ended. Raises a thread's error."""
        self._threads.start()
        running = len(self._threads)
        while running:
            cancellation.check()
            try:
                event = self._events.get(timeout=_LOOK_EVERY_SECONDS)
            except queue.Empty:
                continue
            if isinstance(event, Sent):
                yield event
            elif event.error is not None:
                raise event.error
            else:
                self.rows += event.rows
                running -= 1

    def _run(self, connection: Connection) -> None:
        ended = _Ended(0, None)
        try:
            with database_errors(f"restore {self._loading.table}", self._loading.secrets):
                ended = _Ended(self._write(connection), None)
        except BaseException as error:  # noqa: BLE001 - kept for the caller's thread, which raises it.
            ended = _Ended(0, error)
        self._events.put(ended)

    def _write(self, connection: Connection) -> int:
        feed = _Feed(self._loading.source.chunks(self._events.put), self._threads.stopped)
        with connection.cursor() as cursor:
            try:
                return self._loading.write(cursor, RowStream(self._loading.form, feed))
            except psycopg2.Error as error:
                # Of what fails while it reads from us, the driver keeps the text alone.
                raise feed.error or error from error


class _Feed(Iterator[bytes]):
    """The chunks of one share, until the load is given up; keeps what fails in making them."""

    def __init__(self, chunks: Iterator[bytes], stop: threading.Event) -> None:
        self._chunks = chunks
        self._stop = stop
        self.error: BaseException | None = None

    def __next__(self) -> bytes:
        try:
            if self._stop.is_set():
                raise _Stopped
            return next(self._chunks)
        except StopIteration:
            raise
        except BaseException as error:
            self.error = error
            raise


class _Stopped(Exception):
    """The load was given up; ends a COPY from within."""


@dataclass(frozen=True)
class _Ended:
    """A thread has written its share, or ended with `error`."""

    rows: int
    error: BaseException | None
