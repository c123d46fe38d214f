"""The export of one table: all rows alone, or, if the mode is not full, with a key file.

    scan keys ─▶ decide ─▶ export the changed rows, with digests ─▶ write and check the key file

Both reads are of the same snapshot, in the order of the blocks, so the n-th changed key belongs to
the n-th exported row. If no row was changed or removed, the key file is a copy of the base's, and
DuckDB is not needed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vector_backup_pipeline.engine.cancellation import check
from vector_backup_pipeline.engine.catalog.contents import ManifestSet
from vector_backup_pipeline.engine.errors import (
    BackupError,
    IntegrityError,
    InvalidParams,
    ResourceNotFound,
)
from vector_backup_pipeline.engine.file_names import KEYS_EXTENSION, data_extension, data_file_name
from vector_backup_pipeline.engine.formats.blocks import EMPTY, Content
from vector_backup_pipeline.engine.formats.row_formats import CSV
from vector_backup_pipeline.engine.incremental.base import Doubt, doubt_about, find_table, xmin_of
from vector_backup_pipeline.engine.incremental.chain import download_keys
from vector_backup_pipeline.engine.incremental.key_files import KeyFiles, hash_scanned
from vector_backup_pipeline.engine.manifest import DataFile, KeyFile, TableBackup
from vector_backup_pipeline.engine.postgres.ranges import BlockRange, KeyRange, cut_into_ranges
from vector_backup_pipeline.engine.postgres.snapshot import PinnedSnapshot
from vector_backup_pipeline.engine.postgres.tables import TableSource
from vector_backup_pipeline.engine.progress import ProgressListener
from vector_backup_pipeline.engine.range_readers import ReadJob, scan_keys
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.table_definition import Definitions
from vector_backup_pipeline.engine.table_export import export_table, table_entry
from vector_backup_pipeline.parameters.backup import BackupRequest

# Above this share of changed rows, a full backup costs less than a longer chain.
_MOST_CHANGED = 0.5
# The size of the changed rows, with TOAST, that one statement reads: about 5 ms, 0.3 ms of it for
# the statement itself. Updated rows are close together, and each worker should read some.
_RANGE_BYTES = 512 << 10
_MOST_RANGES = 1024
_CHUNK = 1 << 20


@dataclass(frozen=True)
class _Scan:
    """The keys of all rows, in a file for each range, and which rows have changed since `xmin`:
    all, if that is None. `sha256` is of the keys alone."""

    xmin: int | None
    files: dict[BlockRange, Path]
    sha256: str
    changed: int


@dataclass(frozen=True)
class TableExporter:
    """The export of one table as the set `stamp`."""

    pinned: PinnedSnapshot
    source: TableSource
    definitions: Definitions
    directory: BackupDirectory
    stamp: str
    request: BackupRequest
    listener: ProgressListener

    def run(self, base: ManifestSet | Doubt | None) -> tuple[TableBackup, int | None]:
        """Export the rows that have changed since `base`, or all in doubt. Without a base, export
        all, and write no key file. Returns the table's entry in the manifest, and the number of
        rows of the base that are gone.

        Raises:
            InvalidParams: the mode is incremental, and there is a doubt.
            MissingExtra: DuckDB is not installed.
            IntegrityError: the keys and rows that were read contradict each other.
            DatabaseError, StorageError: see `export_table`; no file is left.
        """
        if base is None:
            return self._entry(file=self._export()), None
        columns, request = self._key_columns, self.request
        no_keys = doubt_about(self.pinned, self.source, columns)
        try:
            if no_keys is not None:
                raise Doubt(no_keys)
            if isinstance(base, Doubt):
                raise base
            with KeyFiles.open(columns) as keys:
                return self._incremental(keys, base)
        except Doubt as error:
            doubt = str(error)
        if columns and request.mode == "incremental" and not request.tables_to_truncate:
            raise InvalidParams(
                f"{self.source.table.requested} needs a full backup: {doubt} Use mode auto."
            )
        if no_keys is not None:
            return self._entry(file=self._export(), full_reason=doubt), None
        with KeyFiles.open(columns) as keys:
            scan = self._scan(keys, None)
            keys.load_scanned([*scan.files.values()], all_changed=True)
            file, stored, _ = self._export_with_keys(keys, scan)
        return self._entry(file=file, keys=stored, full_reason=doubt), None

    def _incremental(self, keys: KeyFiles, base: ManifestSet) -> tuple[TableBackup, int]:
        link = find_table(base, self.pinned, self.source, self.definitions, self.request.format)
        try:
            base_keys = download_keys(self.directory, link, keys)
        except (IntegrityError, ResourceNotFound) as error:
            raise Doubt(f"The key file of the set {base.stamp} is damaged: {error}") from error
        scan, removed = self._scan(keys, xmin_of(base.manifest.snapshot)), 0
        if not scan.changed and scan.sha256 == link.keys.scanned_sha256:
            # The rows are those of the base, whose key file was just checked.
            file, digest = self._export({}), link.table.digest
            with self._deleted_after_error(file):
                stored = self._store_keys(base_keys, link.keys.rows, scan.sha256)
        else:
            keys.load_scanned([*scan.files.values()], all_changed=False)
            unknown, removed = keys.compare(base_keys)
            if unknown:
                raise Doubt(f"{unknown} rows are neither in the set {base.stamp} nor new.")
            if keys.changed > _MOST_CHANGED * keys.rows:
                raise Doubt(f"{keys.changed} of {keys.rows} rows have changed.")
            file, stored, digest = self._export_with_keys(keys, scan)
        is_live = {"live_rows": stored.rows, "live_digest": digest}
        return self._entry(file=file, keys=stored, builds_on=base.stamp, **is_live), removed

    def _scan(self, keys: KeyFiles, xmin: int | None) -> _Scan:
        """Read the keys of all rows, and which have changed since `xmin`."""
        ranges = [
            KeyRange(rows.relation, rows.first, rows.end, base_xmin=xmin)
            for rows in cut_into_ranges(self.source, reads_toast=xmin is None)
        ]
        files: dict[BlockRange, Path] = {
            rows: keys.directory / f"{number}.csv" for number, rows in enumerate(ranges)
        }
        job = ReadJob(
            name=self.source.table.requested,
            columns=self._key_columns,
            ranges=ranges,
            form=CSV,
            secrets=self.pinned.settings.secrets,
            batch_size=self.request.fetched_rows,
            files=files,
        )
        with scan_keys(self.pinned.streams(), job) as readers:
            for _ in readers:
                pass
        return _Scan(xmin, files, *hash_scanned([*files.values()]))

    def _changed_ranges(self, keys: KeyFiles, scan: _Scan) -> dict[BlockRange, int]:
        """The ranges to read again, with the number of changed rows in each."""
        scanned, size = [*scan.files], max(self.source.size, 1)
        least = max(1, _RANGE_BYTES * keys.rows // size, keys.changed // _MOST_RANGES)
        ranges = {}
        for blocks in keys.changed_blocks(least):
            whole = scanned[blocks.file]
            rows = BlockRange(whole.relation, blocks.first, blocks.end, changed_since=scan.xmin)
            if scan.xmin is None:
                rows = BlockRange(whole.relation, whole.first, whole.end)
            ranges[rows] = blocks.rows
        return ranges

    def _export_with_keys(self, keys: KeyFiles, scan: _Scan) -> tuple[DataFile, KeyFile, str]:
        """Export the changed rows, and write the key file. Returns the digest of all rows too."""
        changed = self._changed_ranges(keys, scan)
        digests = {
            rows: keys.directory / f"{number}.digests" for number, rows in enumerate(changed)
        }
        file = self._export(digests)
        with self._deleted_after_error(file):
            target = keys.directory / "keys.parquet"
            lines = {digests[rows]: number for rows, number in changed.items()}
            contents = keys.write(target, lines, self.stamp, has_base=scan.xmin is not None)
            exported = Content(file.rows, int(file.digest.value or "", 16))
            if contents.get(self.stamp, EMPTY) != exported:
                raise IntegrityError(
                    f"The key file of {self.source.table.requested} does not fit the exported rows."
                    " Make a full backup, and report this."
                )
            stored = self._store_keys(target, keys.rows, scan.sha256)
        return file, stored, f"{sum(contents.values(), EMPTY).digest:032x}"

    @contextlib.contextmanager
    def _deleted_after_error(self, file: DataFile) -> Iterator[None]:
        try:
            yield
        except BaseException:
            with contextlib.suppress(BackupError):  # The first error is the one to report.
                self.directory.delete(file.name)
            raise

    def _export(self, digest_files: Mapping[BlockRange, Path] | None = None) -> DataFile:
        request = self.request
        name = self._name(data_extension(request.format, request.compression))
        return export_table(
            self.pinned, self.source, self.directory, name, request, self.listener, digest_files
        )

    def _store_keys(self, path: Path, rows: int, scanned_sha256: str | None) -> KeyFile:
        name, columns = self._name(KEYS_EXTENSION), self._key_columns
        return store_keys(path, self.directory, name, columns, rows, scanned_sha256)

    def _entry(self, **fields: DataFile | KeyFile | str | int | None) -> TableBackup:
        return table_entry(self.source, self.definitions, **fields)

    def _name(self, extension: str) -> str:
        table, extension = self.source.table, extension + self.directory.encryption.suffix
        return data_file_name(table.schema, table.name, self.stamp, extension)

    @property
    def _key_columns(self) -> tuple[str, ...]:
        return self.definitions.tables[self.source.table.oid].primary_key


def store_keys(
    path: Path,
    directory: BackupDirectory,
    name: str,
    columns: Sequence[str],
    rows: int,
    scanned_sha256: str | None,
) -> KeyFile:
    """Copy the key file at `path` into the directory; durable when this returns."""
    with path.open("rb") as source, directory.create(name, path.stat().st_size) as file:
        while chunk := source.read(_CHUNK):
            check()
            file.write(chunk)
        file.commit()
    return KeyFile(
        name=name,
        columns=list(columns),
        rows=rows,
        bytes=file.size,
        sha256=file.sha256,
        scanned_sha256=scanned_sha256,
        encryption=file.encryption,
    )
