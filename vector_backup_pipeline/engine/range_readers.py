"""Reading ranges of one table over several connections at once, as blocks of whole rows."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import psycopg2

from vector_backup_pipeline.engine import cancellation
from vector_backup_pipeline.engine.errors import IntegrityError
from vector_backup_pipeline.engine.formats.blocks import BlockBuilder, RowBlock
from vector_backup_pipeline.engine.formats.compression import Pack
from vector_backup_pipeline.engine.formats.csv import csv_record
from vector_backup_pipeline.engine.formats.row_formats import RowFormat
from vector_backup_pipeline.engine.postgres.connection import Connection, database_errors
from vector_backup_pipeline.engine.postgres.copy_out import copy_range, fetch_range
from vector_backup_pipeline.engine.postgres.ranges import BlockRange
from vector_backup_pipeline.engine.stream_threads import StreamThreads

# Two a worker keep every core busy; each is one block of memory.
_QUEUED_BLOCKS_PER_WORKER = 2
# How often who waits looks whether it still should.
_LOOK_EVERY_SECONDS = 0.1


@dataclass(frozen=True)
class FetchOptions:
    """How rows are fetched: `method` is `copy` or `cursor`; `batch_size` rows at most a fetch."""

    method: str
    batch_size: int


@dataclass(frozen=True)
class ReadJob:
    """What is read: `columns` of the rows in `ranges`, in that `form`; `name` and `secrets` are for
    messages."""

    name: str
    columns: tuple[str, ...]
    ranges: Sequence[BlockRange]
    form: RowFormat
    secrets: tuple[str, ...]


class RangeReaders:
    """Threads that read ranges, one connection each; a context that never leaves one behind.

    `make_pack` gives each thread what compresses its blocks, before they are handed on.
    """

    def __init__(
        self,
        streams: Sequence[Connection],
        job: ReadJob,
        options: FetchOptions,
        make_pack: Callable[[], Pack] = lambda: _as_it_is,
    ) -> None:
        self._job = job
        self._options = options
        self._make_pack = make_pack
        self._streams = streams[: len(job.ranges)]
        self._ranges: queue.SimpleQueue[BlockRange] = queue.SimpleQueue()
        for item in job.ranges:
            self._ranges.put(item)
        self._threads = StreamThreads(self._streams, self._run, "vector-backup-read")
        self._output: queue.Queue[RowBlock | BlockRange | _Ended] = queue.Queue(
            _QUEUED_BLOCKS_PER_WORKER * len(self._streams)
        )

    def __enter__(self) -> RangeReaders:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.end()

    def blocks(self) -> Iterator[RowBlock | BlockRange]:
        """Blocks as they come; a range once all its blocks have come. Raises a worker's error."""
        self._threads.start()
        running = len(self._threads)
        while running:
            cancellation.check()
            try:
                item = self._output.get(timeout=_LOOK_EVERY_SECONDS)
            except queue.Empty:
                continue
            if not isinstance(item, _Ended):
                yield item
                del item  # Not to be kept, if it is large, while the next one comes.
            elif item.error is not None:
                raise item.error
            else:
                running -= 1

    def _run(self, stream: Connection) -> None:
        ended = _Ended(None)
        try:
            with database_errors(f"read {self._job.name}", self._job.secrets):
                self._read_ranges(stream)
        except BaseException as error:  # noqa: BLE001 - kept for the caller's thread, which raises it.
            ended = _Ended(error)
        self._put(ended)

    def _read_ranges(self, stream: Connection) -> None:
        pack = self._make_pack()

        def emit(block: RowBlock) -> None:
            self._put(RowBlock(pack(block.data), block.rows, block.digest))

        with _savepoint(stream):
            while not self._threads.stopped.is_set():
                try:
                    rows = self._ranges.get_nowait()
                except queue.Empty:
                    return
                self._read(stream, rows, emit)
                self._put(rows)

    def _read(self, stream: Connection, rows: BlockRange, emit: Callable[[RowBlock], None]) -> None:
        columns, form = self._job.columns, self._job.form
        builder = BlockBuilder(emit, form)
        if self._options.method == "copy":
            expected = copy_range(stream, rows, columns, form.name, builder)
            builder.flush()
            self._check_count(builder, expected)
        else:
            for values in fetch_range(stream, rows, columns, self._options.batch_size):
                builder.write(csv_record(values))
                del values  # Not to be kept, if it is large, while the next row comes.
                if self._threads.stopped.is_set():
                    return
            builder.flush()

    def _check_count(self, received: BlockBuilder, expected: int) -> None:
        is_whole = received.rows == expected and received.can_end
        if not is_whole and not self._threads.stopped.is_set():
            raise IntegrityError(
                f"The server sent {expected} rows of {self._job.name} in {received.rows} "
                "messages: something between it and this process rewrites the COPY stream. Use "
                "export_method 'cursor'."
            )

    def _put(self, item: RowBlock | BlockRange | _Ended) -> None:
        """Hand an item to the writer; once the reading is given up, let it go.

        A block is then dropped rather than refused with an exception, which would leave the
        connection in the middle of a COPY: the cancelled query ends it properly.
        """
        while not self._threads.stopped.is_set():
            with contextlib.suppress(queue.Full):
                self._output.put(item, timeout=_LOOK_EVERY_SECONDS)
                return


def _as_it_is(data: bytes) -> bytes:
    return data


@dataclass(frozen=True)
class _Ended:
    """A worker is done, or ended with `error`."""

    error: BaseException | None


@contextlib.contextmanager
def _savepoint(stream: Connection) -> Iterator[None]:
    """Keep the stream's transaction, and with it the snapshot, alive through an error."""
    with stream.cursor() as cursor:
        cursor.execute("SAVEPOINT reading")
        try:
            yield
        except BaseException:
            try:
                cursor.execute("ROLLBACK TO SAVEPOINT reading")
            except psycopg2.Error:
                # Gone, or in an unknown state: the other streams carry on without it.
                stream.close()
            raise
        cursor.execute("RELEASE SAVEPOINT reading")
