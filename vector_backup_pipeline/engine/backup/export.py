"""One table into one file: several connections read ranges, one writer hashes and stores.

    worker 1: ranges ─▶ rows ─▶ blocks, compressed ─┐
    worker n: ranges ─▶ rows ─▶ blocks, compressed ─┴▶ bounded queue ─▶ writer: hash, append, index

The caller's thread is the writer. When the run is canceled, the workers' connections are shut down,
their threads joined, and the file is discarded.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass

from vector_backup_pipeline.engine.backup.file_form import FileForm
from vector_backup_pipeline.engine.formats.block_index import BlockIndex, IndexEntry
from vector_backup_pipeline.engine.formats.blocks import DIGEST_MODULUS, RowBlock
from vector_backup_pipeline.engine.formats.compression import Pack, codec
from vector_backup_pipeline.engine.formats.row_formats import row_format
from vector_backup_pipeline.engine.postgres.ranges import BlockRange, cut_into_ranges
from vector_backup_pipeline.engine.postgres.snapshot import PinnedSnapshot
from vector_backup_pipeline.engine.postgres.tables import TableSource
from vector_backup_pipeline.engine.progress import ProgressListener, ProgressMeter
from vector_backup_pipeline.engine.range_readers import FetchOptions, RangeReaders, ReadJob
from vector_backup_pipeline.engine.storage.contract import BackupDirectory, PendingFile


@dataclass(frozen=True)
class StoredTable:
    """A finished file. `digest` is the sum modulo 2^128 over its rows, `duration` in seconds."""

    name: str
    form: FileForm
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
    form: FileForm,
    options: FetchOptions,
    listener: ProgressListener,
) -> StoredTable:
    """Write every row that `table` has in the snapshot to `file_name`, durable and counted.

    Raises:
        DatabaseError, PermissionDenied, StorageError, IntegrityError: no file is left; the
        snapshot stays usable for other tables unless its connections are gone.
    """
    started = time.monotonic()
    ranges = cut_into_ranges(table)
    # A table that was never analyzed has no estimate of rows.
    by_blocks = len(ranges) > 1
    rows, packing = row_format(form.format), codec(form.compression)
    job = ReadJob(table.table.requested, table.columns, ranges, rows, pinned.settings.secrets)

    def make_pack() -> Pack:
        return packing.make_pack(form.level)

    total = table.blocks if by_blocks else table.estimated_rows
    meter = ProgressMeter(table.table.requested, total, listener)
    with (
        directory.create(file_name, form.expected_size(table)) as file,
        RangeReaders(pinned.streams(), job, options, make_pack) as readers,
    ):
        writer = _Writer(file, make_pack(), header=rows.header(table.columns))
        for item in readers.blocks():
            if isinstance(item, BlockRange):
                meter.advance(item.blocks if by_blocks else 0)
            else:
                writer.append(item)
                meter.advance(0 if by_blocks else item.rows)
                meter.add(item.rows, len(item.data))
            del item  # Not to be kept, if it is large, while the next one comes.
        writer.end(rows.trailer)
        file.commit()
    meter.finish()
    return writer.stored(file_name, form, time.monotonic() - started)


class _Writer:
    """Hashes, appends and indexes blocks, in whatever order they come."""

    def __init__(self, file: PendingFile, pack: Pack, header: bytes) -> None:
        self._file = file
        self._pack = pack
        self._sha256 = hashlib.sha256()
        self._rows = 0
        self._digest = 0
        self._size = 0
        self._store(pack(header))
        self._index = BlockIndex(start=self._size)

    def append(self, block: RowBlock) -> None:
        self._store(block.data)
        self._index.add(len(block.data), block.rows)
        self._rows += block.rows
        self._digest = (self._digest + block.digest) % DIGEST_MODULUS

    def end(self, trailer: bytes) -> None:
        if trailer:
            self._store(self._pack(trailer))

    def stored(self, name: str, form: FileForm, duration: float) -> StoredTable:
        return StoredTable(
            name=name,
            form=form,
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
