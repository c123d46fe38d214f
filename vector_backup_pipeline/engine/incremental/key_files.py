"""Key files: Parquet with the primary key of every live row of a table, the digest of the row, and
the timestamp of the set whose data file contains it.

DuckDB reads, joins and writes them, and spills to a temporary directory, so that memory does not
grow with the table.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from pydantic import StrictInt, StrictStr, TypeAdapter

from vector_backup_pipeline.engine import errors
from vector_backup_pipeline.engine.formats.blocks import DIGEST_MODULUS, Content
from vector_backup_pipeline.engine.record import Record

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
# The rows of $files, which PostgreSQL's COPY wrote, in their order: mark, {key}, filename. The mark
# comes first: DuckDB would skip a byte order mark there, which can be the beginning of a key. With
# `parallel`, a thread could mistake a quoted line feed for the end of a row; with
# `hive_partitioning`, a directory in the path such as id=7 would be a column.
_CSV = """
    read_csv($files, columns = {columns}, header = false, auto_detect = false, quote = '"',
             escape = '"', allow_quoted_nulls = false, new_line = '\\n', filename = true,
             parallel = false, hive_partitioning = false)
"""
# Bloom filters would take time, and nothing looks for single keys.
_FORMAT = "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, WRITE_BLOOM_FILTER false"
# The ctid of a changed row, at the beginning of its line.
_MARK = re.compile(rb'\n"\(\d+,\d+\)",')
# A line of a file that selects rows by their keys.
_KEY = TypeAdapter(dict[str, StrictStr | StrictInt])
# Rows per fetch from DuckDB.
_BATCH = 10_000
_CHUNK = 1 << 20
# The digits of a digest, and a line feed.
_DIGEST_LINE = 33
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}


class TableDifference(Record):
    """The number of rows by their change from one key file to another."""

    added: int
    changed: int
    removed: int


class ChangedBlocks(NamedTuple):
    """Blocks from `first` up to but not including `end`, of the range in the scanned file with this
    number, from 0. `rows` is the number of changed rows in them."""

    file: int
    first: int
    end: int
    rows: int


class KeyFiles:
    """Operations on key files of one table, all on local disk.

    `rows` is the number of live keys that were loaded, `changed` that of the changed ones.
    `directory` is temporary. DuckDB is opened when it is needed, and runs one statement at a time:
    consume an iterator before the next call. In statements, {key} are the columns of the key, and
    {csv} is `_CSV`.
    """

    def __init__(self, columns: Sequence[str], directory: Path, resources: ExitStack) -> None:
        self.directory = directory
        self._resources = resources
        self._columns = tuple(columns)
        self._fields = _numbered(columns)
        self._stored = list(map(_quoted, stored_names(columns)))
        self.rows = self.changed = 0

    @cached_property
    def _connection(self) -> DuckDBPyConnection:
        import duckdb

        settings = {**_SETTINGS, "temp_directory": str(self.directory / "spilled")}
        return self._resources.enter_context(duckdb.connect(":memory:", config=settings))

    @classmethod
    @contextmanager
    def open(cls, columns: Sequence[str]) -> Iterator[KeyFiles]:
        """Open key files with these columns of a primary key. Raises `MissingExtra` if DuckDB is
        not installed, and `StorageError` if the local disk is full, also in the block."""
        try:
            import duckdb
        except ImportError as error:
            raise errors.MissingExtra(
                "DuckDB, which incremental backups need, is not installed.", "incremental"
            ) from error
        try:
            with TemporaryDirectory(prefix="vector-backup-keys-") as name, ExitStack() as resources:
                yield cls(columns, Path(name), resources)
        except (duckdb.IOException, duckdb.OutOfMemoryException, OSError) as error:
            if isinstance(error, OSError) and error.errno not in _DISK_FULL:
                raise
            raise errors.StorageError(
                f"Could not work on the key files: {str(error).splitlines()[0]}.",
                f"Free space in {gettempdir()}, or set TMPDIR to another directory.",
            ) from error

    def load_scanned(self, files: Sequence[Path], *, all_changed: bool) -> None:
        """Load the live keys: CSV files of the ctid of each changed row, and its columns. If all
        rows have changed, they have no ctid, and count as those of one block."""
        self._run(
            """
            CREATE TABLE live AS
            SELECT {key}, coalesce(mark, $mark) AS mark, list_position($files, filename) - 1 AS file
            FROM {csv}
            """,
            mark="(0,0)" if all_changed else None,
            files=self._paths(files),
        )
        [(self.rows, self.changed)] = self._rows("SELECT count(*), count(mark) FROM live")

    def changed_blocks(self, rows: int) -> list[ChangedBlocks]:
        """The blocks with changed rows, in the order of the files. Blocks of a file are grouped
        until the group has at least `rows` changed rows."""
        groups: list[ChangedBlocks] = []
        blocks = self._rows(
            """
            SELECT file, split_part(mark[2:], ',', 1)::BIGINT AS block, count(*)
            FROM live WHERE mark IS NOT NULL GROUP BY file, block ORDER BY file, block
            """
        )
        for file, block, changed in blocks:
            if groups and groups[-1].file == file and groups[-1].rows < rows:
                last = groups.pop()
                groups.append(last._replace(end=block + 1, rows=last.rows + changed))
            else:
                groups.append(ChangedBlocks(file, block, block + 1, changed))
        return groups

    def compare(self, base: Path) -> tuple[int, int]:
        """How many live keys `base` does not explain, and how many keys of `base` are no longer
        live. Not explained are unchanged keys that it lacks or has twice, and duplicates: without
        any, a set can build on it."""
        self._read(base=base)
        # All but the unchanged rows. They are few, and the join in `write` is by their digests: a
        # fast one, in little memory.
        self._run(
            """
            CREATE TABLE stale AS SELECT digest, mark, file
            FROM live FULL JOIN base USING ({key})
            WHERE mark IS NOT NULL OR file IS NULL OR digest IS NULL
            """
        )
        [(missing, removed, kept, duplicates)] = self._rows(
            """
            SELECT count(*) FILTER (mark IS NULL AND digest IS NULL),
                   count(*) FILTER (file IS NULL),
                   (SELECT count(*) FROM base) - count(digest),
                   (SELECT count(*) - count(DISTINCT ({key})) FROM live)
            FROM stale
            """
        )
        twice = max(0, kept - (self.rows - self.changed - missing))
        return missing + twice + duplicates, removed

    def write(
        self, target: Path, digests: Mapping[Path, int], stamp: str, *, has_base: bool
    ) -> dict[str, Content]:
        """Write the key file of the set `stamp` and return its `contents`.

        `digests` are files with a line of 32 hexadecimal digits for each changed row, in the order
        of the rows, and the number of lines that each must have. The other rows are those of the
        base, if the live keys were compared with one. Raises `IntegrityError` if the digests do
        not fit the changed rows, or the base the unchanged ones.
        """
        rows = """
            SELECT {key}, digest, $stamp AS stamp
            FROM (SELECT {key} FROM live WHERE mark IS NOT NULL)
            POSITIONAL JOIN read_csv($digests, columns = {'digest': 'UUID'}, header = false,
                                     auto_detect = false, parallel = false,
                                     hive_partitioning = false)
            """
        if has_base:
            rows += "UNION ALL FROM base ANTI JOIN stale USING (digest)"
        fits = all(path.stat().st_size == _DIGEST_LINE * lines for path, lines in digests.items())
        files = self._paths(digests)
        if not fits or self._copy(rows, target, stamp=stamp, digests=files) != self.rows:
            raise errors.IntegrityError(
                "The key file would not have one row for each row of the table: the exported rows "
                "are not the changed ones, or the base lacks rows.",
                "Make a full backup.",
            )
        return self.contents(target)

    def contents(self, file: Path) -> dict[str, Content]:
        """The content of the rows, by the set that contains them."""
        self._read(chosen=file)
        # The sum of all digests would overflow; those of their halves do not.
        sums = self._run(
            """
            SELECT stamp, count(*), sum((number >> 64)::UBIGINT),
                   sum((number & 18446744073709551615)::UBIGINT)
            FROM (SELECT stamp, digest::BLOB::BIT::UHUGEINT AS number FROM chosen)
            GROUP BY stamp
            """
        )
        return {
            stamp: Content(rows, ((high << 64) + low) % DIGEST_MODULUS)
            for stamp, rows, high, low in sums.fetchall()
        }

    def digests(self, chosen: Path, own: Path, stamp: str, *, taken: bool) -> frozenset[int]:
        """The digests of the rows that `chosen` takes from the data file of the set `stamp`, whose
        key file is `own`; those of the other rows if not `taken`."""
        self._read(chosen=chosen, own=own)
        rows = "(FROM chosen WHERE stamp = $stamp)"
        if not taken:
            rows = f"(FROM own WHERE stamp = $stamp) ANTI JOIN {rows} USING (digest)"
        # As bytes: DuckDB takes 75 µs to convert one UHUGEINT.
        query = "SELECT digest::BLOB FROM " + rows  # noqa: S608 - the text above
        digests = self._rows(query, stamp=stamp)
        return frozenset(int.from_bytes(digest, "big") for (digest,) in digests)

    def matching(self, newest: Path, keys: Path, target: Path) -> int:
        """Write the rows of `newest` whose keys are in a file of JSON lines; return their number.
        Raises `InvalidParams` if a line is not an object of the key's columns, or no row has this
        key."""
        wanted = self.directory / "wanted.csv"
        with keys.open("rb") as lines, wanted.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")
            for number, line in enumerate(lines, start=1):
                try:
                    key = _KEY.validate_json(line)
                    if key.keys() != set(self._columns):
                        raise ValueError(key)
                    rows.writerow([number, *(key[column] for column in self._columns)])
                except ValueError as error:
                    raise errors.InvalidParams(
                        f"Line {number} of {keys.name} is not a JSON object of the primary key "
                        f"({', '.join(self._columns)}) with strings or integers. If they "
                        "are keys of another table, name it in tables."
                    ) from error
        self._read(newest=newest)
        self._run("CREATE OR REPLACE TABLE wanted AS FROM {csv}", files=[str(wanted)])
        unknown = "SELECT min(mark::BIGINT) FROM wanted ANTI JOIN newest USING ({key})"
        [(unknown_line,)] = self._rows(unknown)
        if unknown_line is not None:
            raise errors.InvalidParams(
                f"The set has no row with the key in line {unknown_line} of {keys.name}."
            )
        return self._copy("FROM newest SEMI JOIN wanted USING ({key})", target)

    def removed_since(self, earlier: Path, later: Path, target: Path) -> int:
        """Write the rows of `earlier` that `later` lacks or has with another content; return their
        number."""
        self._read(earlier=earlier, later=later)
        return self._copy("FROM earlier ANTI JOIN later USING (digest)", target)

    def restamp(self, file: Path, stamp: str, target: Path) -> None:
        """Write the rows of a key file as those of the set `stamp`."""
        self._read(chosen=file)
        self._copy("SELECT {key}, digest, $stamp AS stamp FROM chosen", target, stamp=stamp)

    def difference(self, earlier: Path, later: Path) -> TableDifference:
        """The number of changes. Digests of both files must be of the same columns and format."""
        self._compare(earlier, later)
        query = "SELECT change, count(*) FROM differing GROUP BY change"
        counts = dict.fromkeys(get_args(Change), 0) | dict(self._run(query).fetchall())
        return TableDifference(**counts)

    def differing_keys(self, earlier: Path, later: Path) -> Iterator[tuple[Change, dict[str, str]]]:
        """The changed keys, in no particular order."""
        self._compare(earlier, later)
        for change, *values in self._rows("SELECT change, {key} FROM differing"):
            yield change, dict(zip(self._columns, values, strict=True))

    def _compare(self, earlier: Path, later: Path) -> None:
        # Equal digests are equal rows. A join by digest takes a quarter of the time of one by key.
        self._read(earlier=earlier, later=later)
        self._run(
            """
            CREATE OR REPLACE VIEW differing AS
            SELECT CASE WHEN a.digest IS NULL THEN 'added' WHEN b.digest IS NULL THEN 'removed'
                        ELSE 'changed' END AS change, {key}
            FROM (FROM earlier ANTI JOIN later USING (digest)) AS a
            FULL JOIN (FROM later ANTI JOIN earlier USING (digest)) AS b USING ({key})
            """
        )

    def _read(self, **files: Path) -> None:
        """Make each key file a view: {key}, digest, stamp."""
        columns = ", ".join(map("{} AS {}".format, self._stored, self._fields))
        for name, file in files.items():
            path = str(file).replace("'", "''")
            source = f"read_parquet('{path}', hive_partitioning = false)"
            query = f"SELECT {columns}, digest, stamp FROM {source}"  # noqa: S608 - quoted
            self._connection.execute(f"CREATE OR REPLACE VIEW {name} AS {query}")

    def _paths(self, files: Iterable[Path]) -> list[str]:
        """The files for DuckDB, which refuses an empty list: at least an empty one."""
        nothing = self.directory / "nothing.csv"
        nothing.touch()
        return [*map(str, files), str(nothing)]

    def _copy(self, rows: str, target: Path, **parameters: str | list[str]) -> int:
        """Write a key file with the rows of a query: {key}, digest, stamp. Return their number."""
        columns = ", ".join(map("{} AS {}".format, self._fields, self._stored))
        query = f"SELECT {columns}, digest, stamp FROM ({self._sql(rows)})"  # noqa: S608 - quoted
        copy = f"COPY ({query}) TO $target ({_FORMAT})"
        parameters["target"] = str(target)
        [(number,)] = self._connection.execute(copy, parameters).fetchall()
        return int(number)

    def _rows(self, query: str, **parameters: str | int) -> Iterator[tuple[Any, ...]]:
        result = self._run(query, **parameters)
        while rows := result.fetchmany(_BATCH):
            yield from rows

    def _run(
        self, statement: str, **parameters: str | list[str] | int | None
    ) -> DuckDBPyConnection:
        return self._connection.execute(self._sql(statement), parameters)

    def _sql(self, text: str) -> str:
        columns = dict.fromkeys(["mark", *self._fields], "VARCHAR")
        text = text.replace("{csv}", _CSV.replace("{columns}", str(columns)))
        return text.replace("{key}", ", ".join(self._fields))


def hash_scanned(files: Sequence[Path]) -> tuple[str, int]:
    """The SHA-256 of scanned files without the marks of changed rows, and the number of the marks.
    A line inside a key can't begin with one, since a quote in a key is doubled."""
    sha256, marked = hashlib.sha256(), 0
    for path in files:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                data, marks = _MARK.subn(b"\n,", b"\n" + chunk + file.readline())
                sha256.update(data[1:])
                marked += marks
    return sha256.hexdigest(), marked


def stored_names(columns: Sequence[str]) -> list[str]:
    """The names of these columns of a primary key in a key file: their own; key_1, key_2, … if
    DuckDB, which ignores case, could not tell all columns of the file apart."""
    names = {column.casefold() for column in columns} | {"digest", "stamp"}
    return list(columns) if len(names) == len(columns) + 2 else _numbered(columns)


def _numbered(columns: Sequence[str]) -> list[str]:
    return [f"key_{position}" for position in range(1, len(columns) + 1)]


def _quoted(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'
