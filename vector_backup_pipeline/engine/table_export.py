"""One table into one file: several connections read ranges, one writer hashes and stores.

    worker 1: ranges ─▶ rows ─▶ blocks, compressed ─┐
    worker n: ranges ─▶ rows ─▶ blocks, compressed ─┴▶ bounded queue ─▶ writer: hash, append, index

The caller's thread is the writer. When the run is canceled, the workers' connections are shut down,
their threads joined, and the file is discarded.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from vector_backup_pipeline.engine.formats.blocks import DIGEST_MODULUS, BlockIndex, RowBlock
from vector_backup_pipeline.engine.formats.compression import Pack, codec
from vector_backup_pipeline.engine.formats.row_formats import RowFormat, row_format
from vector_backup_pipeline.engine.manifest import DataFile, Digest, KeyFile, Relation, TableBackup
from vector_backup_pipeline.engine.postgres.ranges import BlockRange, cut_into_ranges
from vector_backup_pipeline.engine.postgres.snapshot import PinnedSnapshot
from vector_backup_pipeline.engine.postgres.tables import TableSource
from vector_backup_pipeline.engine.progress import ProgressListener, ProgressMeter
from vector_backup_pipeline.engine.range_readers import ReadJob, read_ranges
from vector_backup_pipeline.engine.storage.directory import BackupDirectory, PendingFile
from vector_backup_pipeline.engine.table_definition import Definitions
from vector_backup_pipeline.parameters.backup import BackupRequest
from vector_backup_pipeline.parameters.types import Compression

# The text of vectors is 2.5 times as long as their binary form in the table. Other formats take at
# most about the size of the table. Object stores choose the part size by this estimate.
_TEXT_EXPANSION = 3


def expected_size(table: TableSource, request: BackupRequest) -> int:
    """The estimated size of the table's file in bytes; the file may be twice as large."""
    is_uncompressed_text = (request.format, request.compression) == ("csv", "none")
    return table.size * (_TEXT_EXPANSION if is_uncompressed_text else 1)


def table_entry(
    source: TableSource, definitions: Definitions, **fields: DataFile | KeyFile | str | int | None
) -> TableBackup:
    """A table's entry in the manifest; `fields` tell of its files, or why it has none."""
    relations = [
        Relation(
            schema_name=relation.schema,
            name=relation.name,
            oid=relation.oid,
            relfilenode=relation.relfilenode,
            size=relation.size,
        )
        for relation in source.relations
    ]
    entry = TableBackup(
        table=source.table.requested,
        schema_name=source.table.schema,
        name=source.table.name,
        oid=source.table.oid,
        relations=relations,
        columns=list(source.columns),
        file=None,
        definition=definitions.tables[source.table.oid],
    )
    return entry.model_copy(update=fields)


def export_table(
    pinned: PinnedSnapshot,
    table: TableSource,
    directory: BackupDirectory,
    file_name: str,
    request: BackupRequest,
    listener: ProgressListener,
    digest_files: Mapping[BlockRange, Path] | None = None,
) -> DataFile:
    """Write every row that `table` has in the snapshot to `file_name`, durable and counted, in the
    form that `request` asks for. With `digest_files`, only the rows of these ranges, and the digest
    of each row to its range's file, in the order of the blocks.

    Raises:
        DatabaseError, PermissionDenied, StorageError, IntegrityError: no file is left; the
        snapshot stays usable for other tables unless its connections are gone.
    """
    ranges = cut_into_ranges(table) if digest_files is None else list(digest_files)
    form = row_format(request.format)
    job = ReadJob(
        name=table.table.requested,
        columns=table.columns,
        ranges=ranges,
        form=form,
        secrets=pinned.settings.secrets,
        batch_size=request.fetched_rows,
        files=digest_files,
    )

    def make_pack() -> Pack:
        return codec(request.compression).make_pack(request.compression_level)

    # A table that was never analyzed has no estimate of rows.
    by_blocks = len(ranges) > 1
    total = sum(rows.blocks for rows in ranges) if by_blocks else table.estimated_rows
    meter = ProgressMeter(job.name, total, listener)
    with (
        directory.create(file_name, expected_size(table, request)) as file,
        read_ranges(pinned.streams(), job, make_pack) as readers,
    ):
        writer = DataFileWriter(file, make_pack(), form, table.columns)
        for item in readers:
            if isinstance(item, BlockRange):
                meter.advance(item.blocks if by_blocks else 0)
            else:
                writer.append(item)
                meter.advance(0 if by_blocks else item.rows)
                meter.add(item.rows, len(item.data))
            del item  # It may be large; free it before the next one arrives.
        stored = writer.commit(file_name, request.compression)
    meter.finish()
    return stored


class DataFileWriter:
    """Appends and indexes blocks, in any order, which `pack` has compressed."""

    def __init__(
        self, file: PendingFile, pack: Pack, form: RowFormat, columns: Sequence[str]
    ) -> None:
        self._started = time.monotonic()
        self._file = file
        self._pack = pack
        self._form = form
        self._columns = columns
        self._rows = 0
        self._digest = 0
        self._size = 0
        self._store(pack(form.header(columns)))
        self._index = BlockIndex(start=self._size)

    def append(self, block: RowBlock) -> None:
        self._store(block.data)
        self._index.add(len(block.data), block.rows)
        self._rows += block.rows
        self._digest = (self._digest + block.digest) % DIGEST_MODULUS

    def commit(self, name: str, compression: Compression) -> DataFile:
        """End the file, make it durable, and return its entry in the manifest."""
        if self._form.trailer:
            self._store(self._pack(self._form.trailer))
        self._file.commit()
        form = self._form.name
        return DataFile(
            name=name,
            format=form,
            compression=compression,
            rows=self._rows,
            bytes=self._file.size,
            sha256=self._file.sha256,
            digest=Digest(encoding=form, columns=list(self._columns), value=f"{self._digest:032x}"),
            duration=round(time.monotonic() - self._started, 3),
            blocks=self._index.blocks,
            encryption=self._file.encryption,
            plain_bytes=self._size if self._file.encryption else None,
        )

    def _store(self, data: bytes) -> None:
        self._file.write(data)
        self._size += len(data)
