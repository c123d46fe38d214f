"""One table of a backup: all rows alone, or, if the mode is not full, with a key file.

    scan keys ─▶ decide ─▶ export the changed rows, with digests ─▶ write and check the key file

Both reads are of the same ranges in the same snapshot and order, so the n-th changed key of a range
belongs to the n-th exported row of it.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
from vector_backup_pipeline.engine.incremental.key_files import KeyFiles, LiveKeys
from vector_backup_pipeline.engine.manifest import DataFile, KeyFile
from vector_backup_pipeline.engine.postgres.ranges import BlockRange, KeyRange, cut_into_ranges
from vector_backup_pipeline.engine.postgres.snapshot import PinnedSnapshot
from vector_backup_pipeline.engine.postgres.tables import TableSource
from vector_backup_pipeline.engine.progress import ProgressListener
from vector_backup_pipeline.engine.range_readers import ReadJob, scan_keys
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.table_definition import Definitions
from vector_backup_pipeline.engine.table_export import export_table
from vector_backup_pipeline.parameters.backup import BackupRequest

# Above this share of changed rows, a full backup costs less than a longer chain.
_MOST_CHANGED = 0.5
_CHUNK = 1 << 20


@dataclass(frozen=True)
class TableFiles:
    """The files of a table. `live` are all of its rows, None if `file` contains them; `removed` is
    the number of rows of the base that are gone.

    `full_reason` says why the table is full; None if it builds on a set, or the run was to be full.
    """

    file: DataFile
    keys: KeyFile | None = None
    builds_on: str | None = None
    live: Content | None = None
    removed: int | None = None
    full_reason: str | None = None

    @property
    def rows(self) -> int:
        return self.file.rows if self.live is None else self.live.rows

    @property
    def stored(self) -> list[DataFile | KeyFile]:
        return [self.file, self.keys] if self.keys else [self.file]


@dataclass(frozen=True)
class IncrementalExport:
    """The export of one table as the set `stamp`."""

    pinned: PinnedSnapshot
    source: TableSource
    definitions: Definitions
    directory: BackupDirectory
    stamp: str
    request: BackupRequest
    listener: ProgressListener

    def run(self, base: ManifestSet | Doubt | None) -> TableFiles:
        """Export the rows that have changed since `base`, or all in doubt. Without a base, export
        all, and write no key file.

        Raises:
            InvalidParams: the mode is incremental, and there is a doubt.
            MissingExtra: DuckDB is not installed.
            IntegrityError: the keys and rows that were read contradict each other.
            DatabaseError, StorageError: see `export_table`; no file is left.
        """
        if base is None:
            return TableFiles(self._export())
        columns, request = self._key_columns, self.request
        no_keys = doubt_about(self.pinned, self.source, columns)
        try:
            if no_keys is not None:
                raise Doubt(no_keys)
            if isinstance(base, Doubt):
                raise base
            return self._with_keys(base)
        except Doubt as error:
            doubt = str(error)
        if columns and request.mode == "incremental" and not request.tables_to_truncate:
            raise InvalidParams(
                f"{self.source.table.requested} needs a full backup: {doubt} Use mode auto."
            )
        files = self._with_keys(None) if no_keys is None else TableFiles(self._export())
        return replace(files, full_reason=doubt)

    def _with_keys(self, base: ManifestSet | None) -> TableFiles:
        """Export the rows that have changed since `base`, or all, and write the key file."""
        with KeyFiles.open(self._key_columns) as keys:
            if base is None:
                ranges, _ = self._scan(keys, None)
                return self._written(keys, ranges)
            link = find_table(base, self.pinned, self.source, self.definitions, self.request.format)
            try:
                base_keys = download_keys(self.directory, link, keys)
            except (IntegrityError, ResourceNotFound) as error:
                raise Doubt(f"The key file of the set {base.stamp} is damaged: {error}") from error
            ranges, live = self._scan(keys, xmin_of(base.manifest.snapshot))
            if unknown := keys.count_unknown(base_keys):
                raise Doubt(f"{unknown} rows are neither in the set {base.stamp} nor new.")
            if sum(live.changed) > _MOST_CHANGED * live.rows:
                raise Doubt(f"{sum(live.changed)} of {live.rows} rows have changed.")
            removed = keys.removed(base_keys)
            files = self._written(keys, ranges, base_keys)
            return replace(files, builds_on=base.stamp, removed=removed)

    def _scan(self, keys: KeyFiles, xmin: int | None) -> tuple[list[BlockRange], LiveKeys]:
        """Read the keys of all rows, and which have changed since `xmin`: all, if that is None.
        Returns the ranges of the changed rows too."""
        ranges = cut_into_ranges(self.source, reads_toast=xmin is None)
        files: dict[BlockRange, Path] = {
            KeyRange(rows.relation, rows.first, rows.end, base_xmin=xmin): (
                keys.directory / f"{number}.csv"
            )
            for number, rows in enumerate(ranges)
        }
        job = ReadJob(
            name=self.source.table.requested,
            columns=self._key_columns,
            ranges=list(files),
            form=CSV,
            secrets=self.pinned.settings.secrets,
            batch_size=self.request.fetched_rows,
            files=files,
        )
        with scan_keys(self.pinned.streams(), job) as readers:
            for _ in readers:
                pass
        live = keys.load_scanned(list(files.values()))
        has_changed = zip(ranges, live.changed, strict=True)
        return [replace(rows, changed_since=xmin) for rows, count in has_changed if count], live

    def _written(
        self, keys: KeyFiles, ranges: Sequence[BlockRange], base_keys: Path | None = None
    ) -> TableFiles:
        """Export the changed rows, and write the key file."""
        digests = {rows: keys.directory / f"{number}.digests" for number, rows in enumerate(ranges)}
        file = self._export(digests)
        try:
            target = keys.directory / "keys.parquet"
            contents = keys.write(target, list(digests.values()), self.stamp, base_keys)
            exported = Content(file.rows, int(file.digest.value or "", 16))
            if contents.get(self.stamp, EMPTY) != exported:
                raise IntegrityError(
                    f"The key file of {self.source.table.requested} does not fit the exported rows."
                    " Make a full backup, and report this."
                )
            live = sum(contents.values(), EMPTY)
            name, columns = self._name(KEYS_EXTENSION), self._key_columns
            stored = store_keys(target, self.directory, name, columns, live.rows)
            return TableFiles(file, stored, live=live if base_keys else None)
        except BaseException:
            with contextlib.suppress(BackupError):  # The first error is the one to report.
                self.directory.delete(file.name)
            raise

    def _export(self, digest_files: Mapping[BlockRange, Path] | None = None) -> DataFile:
        extension = data_extension(self.request.format, self.request.compression)
        return export_table(
            self.pinned,
            self.source,
            self.directory,
            self._name(extension),
            self.request,
            self.listener,
            digest_files,
        )

    def _name(self, extension: str) -> str:
        table = self.source.table
        return data_file_name(table.schema, table.name, self.stamp, extension)

    @property
    def _key_columns(self) -> tuple[str, ...]:
        return self.definitions.tables[self.source.table.oid].primary_key


def store_keys(
    path: Path, directory: BackupDirectory, name: str, columns: Sequence[str], rows: int
) -> KeyFile:
    """Copy the key file at `path` into the directory; durable when this returns."""
    size, sha256 = path.stat().st_size, hashlib.sha256()
    with path.open("rb") as source, directory.create(name, size) as file:
        while chunk := source.read(_CHUNK):
            check()
            sha256.update(chunk)
            file.write(chunk)
        file.commit()
    return KeyFile(
        name=name, columns=list(columns), rows=rows, bytes=size, sha256=sha256.hexdigest()
    )
