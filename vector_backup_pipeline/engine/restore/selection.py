"""The selection of single rows, by their primary keys or by what became of them."""

from pathlib import Path

from vector_backup_pipeline.engine.catalog.contents import ManifestSet
from vector_backup_pipeline.engine.errors import InvalidParams
from vector_backup_pipeline.engine.incremental.chain import (
    Link,
    SelectRows,
    download_keys,
)
from vector_backup_pipeline.engine.incremental.key_files import KeyFiles
from vector_backup_pipeline.engine.storage.directory import BackupDirectory

_TARGET = "selected.parquet"


def row_selection(
    directory: BackupDirectory, link: Link, later: ManifestSet | None, keys_from: str | None
) -> SelectRows | None:
    """How to select rows of the table: those whose keys are in the file `keys_from`, or those that
    the set `later` lacks or has with other values; None selects all. Raises `InvalidParams` if the
    keys of the rows are unknown or cannot be compared."""
    if keys_from is None and later is None:
        return None
    _check_keys(link)
    if later is None:
        return _matching(Path(keys_from or ""))
    return _removed_since(directory, link, later)


def _matching(keys_from: Path) -> SelectRows:
    if not keys_from.is_file():
        raise InvalidParams(f"keys_from names {keys_from}, which is not a file.")
    if not keys_from.stat().st_size:
        raise InvalidParams(f"keys_from names {keys_from}, which is empty.")

    def select(keys: KeyFiles, newest: Path) -> Path:
        keys.matching(newest, keys_from, keys.directory / _TARGET)
        return keys.directory / _TARGET

    return select


def _removed_since(directory: BackupDirectory, link: Link, later: ManifestSet) -> SelectRows:
    other = Link.find(later, link.table.schema_name, link.table.name)
    if other is None:
        raise InvalidParams(
            f"The set {later.stamp} has no table {link.table.table} to compare with. Name the "
            "tables to restore from in tables."
        )
    _check_keys(other)
    if other.form != link.form:
        raise InvalidParams(
            f"The rows of {link.table.table} in {link.stamp} and {later.stamp} cannot be compared: "
            "the sets differ in its columns, its primary key or the format."
        )

    def select(keys: KeyFiles, earlier: Path) -> Path:
        newer = download_keys(directory, other, keys)
        keys.removed_since(earlier, newer, keys.directory / _TARGET)
        return keys.directory / _TARGET

    return select


def _check_keys(link: Link) -> None:
    if link.table.keys is None:
        raise InvalidParams(
            f"The set {link.stamp} has no key file of {link.table.table}, so its rows cannot be "
            "selected by key. A backup with mode auto or incremental writes one for a table with "
            "a primary key."
        )
