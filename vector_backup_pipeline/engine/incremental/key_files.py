"""Key files: Parquet with the primary key of every live row of a table, the digest of the row, and
the timestamp of the set whose data file contains it.

DuckDB reads, joins and writes them, and spills to a temporary directory, so that memory does not
grow with the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal, NamedTuple

from vector_backup_pipeline.engine.errors import (
    MissingExtra,
)
from vector_backup_pipeline.engine.formats.blocks import Content

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Change = Literal["added", "changed", "removed"]

# 5 million keys join in 256 MB; what does not fit is spilled.
_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "memory_limit": "256MB",
    "threads": 2,
    "preserve_insertion_order": True,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
# Rows per fetch from DuckDB.
_BATCH = 10_000
# What PostgreSQL's COPY writes. `auto_detect` would guess the types of keys; quoted newlines are
# read right by one thread only.
_CSV = """
    read_csv($file, columns = $columns, header = false, auto_detect = false, delim = ',',
             quote = '"', escape = '"', allow_quoted_nulls = false, parallel = false)
"""


class LiveKeys(NamedTuple):
    """The number of live rows, and of the changed ones in each scanned file."""

    rows: int
    changed: list[int]


class RowFilter(NamedTuple):
    """Rows of a data file by their digests: only these if `keeps`, else all but these."""

    digests: frozenset[int]
    keeps: bool


class Difference(NamedTuple):
    """The number of rows by their change from one key file to another."""

    added: int
    changed: int
    removed: int


class KeyFiles:
    """Operations on key files of one table, all on local disk.

    `directory` is temporary. DuckDB runs one statement at a time: consume an iterator before the
    next call.
    """

    def __init__(
        self, columns: Sequence[str], directory: Path, connection: DuckDBPyConnection
    ) -> None:
        self.directory = directory
        self._columns = tuple(columns)
        self._stored = stored_names(columns)
        self._connection = connection

    @classmethod
    @contextmanager
    def open(cls, columns: Sequence[str]) -> Iterator[KeyFiles]:
        """Open key files with these columns of a primary key.

        Raises:
            MissingExtra: DuckDB is not installed.
        """
        try:
            import duckdb
        except ImportError as error:
            raise MissingExtra(
                "DuckDB, which incremental backups need, is not installed.", "incremental"
            ) from error
        with TemporaryDirectory(prefix="vector-backup-keys-") as name:
            settings = {**_SETTINGS, "temp_directory": str(Path(name, "spilled"))}
            with duckdb.connect(":memory:", config=settings) as connection:
                yield cls(columns, Path(name), connection)

    def load_scanned(self, files: Sequence[Path]) -> LiveKeys:
        """Load the live keys: CSV files of the columns and whether the row has changed (t or f)."""
        raise NotImplementedError

    def count_unknown(self, base: Path) -> int:
        """How many live keys cannot be told from `base`: unchanged ones that it lacks or has twice,
        and duplicates. 0 if `base` can be built on."""
        raise NotImplementedError

    def write(
        self, target: Path, digests: Sequence[Path], stamp: str, base: Path | None = None
    ) -> Content:
        """Write the key file of the set `stamp` and return the content of all live rows.

        `digests` has a file for each scanned file with changed rows, in the same order: a line of
        32 hexadecimal digits per changed row. The other rows are as in `base`.

        Raises:
            IntegrityError: Their number is not that of the changed rows, or `base` lacks a row.
        """
        raise NotImplementedError

    def removed(self, base: Path) -> int:
        """The number of keys of `base` that are no longer live."""
        raise NotImplementedError

    def content(self, file: Path, stamp: str | None = None) -> Content:
        """The content of all rows, or of those that the set `stamp` contains."""
        raise NotImplementedError

    def stamps(self, file: Path) -> dict[str, int]:
        """The number of rows by the set that contains them."""
        raise NotImplementedError

    def superseded(self, newest: Path, own: Path, stamp: str) -> RowFilter:
        """The rows in the data file of the set `stamp`, whose key file is `own`, that `newest` does
        not take from it."""
        raise NotImplementedError

    def kept(self, chosen: Path, stamp: str) -> RowFilter:
        """The rows of `chosen` that the set `stamp` contains."""
        raise NotImplementedError

    def matching(self, newest: Path, keys: Path, target: Path) -> int:
        """Write the rows of `newest` whose keys are in a file of JSON lines, and return their
        number.

        Raises:
            InvalidParams: A line is not an object of the key's columns, or no row has this key.
        """
        raise NotImplementedError

    def removed_since(self, earlier: Path, later: Path, target: Path) -> int:
        """Write the rows of `earlier` that `later` lacks or has with another content, and return
        their number."""
        raise NotImplementedError

    def difference(self, earlier: Path, later: Path) -> Difference:
        """The number of changes. Digests of both files must be of the same columns and format."""
        raise NotImplementedError

    def differing_keys(self, earlier: Path, later: Path) -> Iterator[tuple[Change, dict[str, str]]]:
        """The changed keys, in no particular order."""
        raise NotImplementedError


def stored_names(columns: Sequence[str]) -> list[str]:
    """The names of these columns of a primary key in a key file: their own; key_1, key_2, … if
    DuckDB, which ignores case, could not tell all columns of the file apart."""
    names = {column.casefold() for column in columns} | {"digest", "stamp"}
    if len(names) == len(columns) + 2:
        return list(columns)
    return [f"key_{position}" for position in range(1, len(columns) + 1)]
