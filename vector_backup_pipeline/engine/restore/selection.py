"""The selection of single rows: by primary key, or by comparison with a later set."""

from pathlib import Path

from vector_backup_pipeline.engine.catalog.contents import ManifestSet
from vector_backup_pipeline.engine.errors import InvalidParams
from vector_backup_pipeline.engine.incremental.chain import (
    SelectRows,
    comparable_links,
    download_keys,
)
from vector_backup_pipeline.engine.incremental.key_files import KeyFiles
from vector_backup_pipeline.engine.manifest import TableBackup
from vector_backup_pipeline.engine.storage.directory import BackupDirectory


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
    _, newer = comparable_links(backup, later or backup, table.schema_name, table.name)
    keys_file = Path(keys_from or "")
    if keys_from is not None and not keys_file.is_file():
        raise InvalidParams(f"keys_from names {keys_file}, which is not a file.")
    if keys_from is not None and not keys_file.stat().st_size:
        raise InvalidParams(f"keys_from names {keys_file}, which is empty.")

    def select(keys: KeyFiles, own_keys: Path) -> Path:
        selected = keys.directory / "selected.parquet"
        if later is None:
            keys.matching(own_keys, keys_file, selected)
        else:
            keys.removed_since(own_keys, download_keys(directory, newer, keys), selected)
        return selected

    return select
