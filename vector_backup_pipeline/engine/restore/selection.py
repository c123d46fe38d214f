"""The selection of single rows: by primary key, or by comparison with a later set."""

from pathlib import Path

from vector_backup_pipeline.engine.catalog.contents import ManifestSet
from vector_backup_pipeline.engine.errors import InvalidParams
from vector_backup_pipeline.engine.incremental.chain import Link, SelectRows, download_keys
from vector_backup_pipeline.engine.incremental.key_files import KeyFiles
from vector_backup_pipeline.engine.manifest import TableBackup
from vector_backup_pipeline.engine.storage.directory import BackupDirectory

_TARGET = "selected.parquet"


def row_selection(
    directory: BackupDirectory,
    backup: ManifestSet,
    table: TableBackup,
    later: ManifestSet | None,
    keys_from: str | None,
) -> SelectRows | None:
    """How to select rows of a table of the set `backup`: those whose keys are in the file
    `keys_from`, or those that the set `later` lacks or has with other values; None selects all.
    Raises `InvalidParams` if the keys of the rows are unknown or cannot be compared."""
    if keys_from is None and later is None:
        return None
    link = Link.with_keys(backup, table.schema_name, table.name)
    if later is None:
        return _matching(Path(keys_from or ""))
    other = Link.with_keys(later, table.schema_name, table.name)
    other.check_comparable(link)
    return _removed_since(directory, other)


def _matching(keys_from: Path) -> SelectRows:
    if not keys_from.is_file():
        raise InvalidParams(f"keys_from names {keys_from}, which is not a file.")
    if not keys_from.stat().st_size:
        raise InvalidParams(f"keys_from names {keys_from}, which is empty.")

    def select(keys: KeyFiles, newest: Path) -> Path:
        keys.matching(newest, keys_from, keys.directory / _TARGET)
        return keys.directory / _TARGET

    return select


def _removed_since(directory: BackupDirectory, later: Link) -> SelectRows:
    def select(keys: KeyFiles, earlier: Path) -> Path:
        newer = download_keys(directory, later, keys)
        keys.removed_since(earlier, newer, keys.directory / _TARGET)
        return keys.directory / _TARGET

    return select
