"""Key files: Parquet with the primary key of every live row of a table, the digest of the row, and
the timestamp of the set whose data file contains it.

DuckDB reads, joins and writes them, and spills to a temporary directory, so that memory does not
grow with the table.
"""

from __future__ import annotations

import csv
import errno
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import TYPE_CHECKING, Any, Literal, get_args

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
# A line of a file that selects rows by their keys.
_KEY = TypeAdapter(dict[str, StrictStr | StrictInt])
# Rows per fetch from DuckDB.
_BATCH = 10_000
_CHUNK = 1 << 20
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}


class TableDifference(Record):
    """The number of rows by their change from one key file to another."""

    added: int
    changed: int
    removed: int


class KeyFiles:
    """Operations on key files of one table, all on local disk.

    `rows` is the number of live keys that were loaded, `changed` that of the changed ones in each
    scanned file. `directory` is temporary. DuckDB is opened when it is needed, and runs one
    statement at a time: consume an iterator before the next call.
    """

    def __init__(self, columns: Sequence[str], directory: Path, resources: ExitStack) -> None:
        self.directory = directory
        self._resources = resources
        self._columns = tuple(columns)
        self._stored = list(map(_quoted, stored_names(columns)))
        self._fields = _numbered(columns)
        self.rows = 0
        self.changed: list[int] = []

    @cached_property
    def _connection(self) -> DuckDBPyConnection:
        import duckdb

        settings = {**_SETTINGS, "temp_directory": str(self.directory / "spilled")}
        connection = self._resources.enter_context(duckdb.connect(":memory:", config=settings))
        key = f"key STRUCT({' VARCHAR, '.join(self._fields)} VARCHAR)"
        connection.execute(f"CREATE TABLE live ({key}, changed BOOLEAN, file INTEGER)")
        connection.execute(
            f"CREATE TABLE exported ({key}, digest UUID, stamp VARCHAR, fits BOOLEAN)"
        )
        return connection

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

    def load_scanned(self, files: Sequence[Path]) -> None:
        """Load the live keys: CSV files of whether a row has changed (t or f), and its columns."""
        if files:
            self._read_csv("scanned", *files)
            scanned = "SELECT key, mark = 't', list_position($files, filename) - 1 FROM scanned"
            self._run("INSERT INTO live " + scanned, files=list(map(str, files)))
        counts = dict(self._rows("SELECT file, count(*) FROM live WHERE changed GROUP BY file"))
        self.changed = [counts.get(number, 0) for number in range(len(files))]
        self.rows = self._number("SELECT count(*) FROM live")

    def compare(self, base: Path) -> tuple[int, int]:
        """How many live keys `base` does not explain, and how many keys of `base` are no longer
        live. Not explained are unchanged keys that it lacks or has twice, and duplicates: without
        any, a set can build on it."""
        self._read(base=base)
        [counts] = self._run(
            """
            SELECT count(*) FILTER (NOT changed AND base.digest IS NULL)
                 + count(*) FILTER (NOT changed) - (SELECT count(*) FROM live WHERE NOT changed)
                 + (SELECT count(*) - count(DISTINCT key) FROM live),
                   count(*) FILTER (changed IS NULL)
            FROM live FULL JOIN base USING (key)
            """
        ).fetchall()
        return counts

    def write(
        self, target: Path, digests: Sequence[Path], stamp: str, base: Path | None = None
    ) -> dict[str, Content]:
        """Write the key file of the set `stamp` and return its `contents`.

        `digests` has a file for each scanned file with changed rows, in the same order: a line of
        32 hexadecimal digits for each changed row. The other rows are as in `base`. Raises
        `IntegrityError` if the digests do not fit the changed rows, or `base` the unchanged ones.
        """
        if digests:
            self._run(
                """
                INSERT INTO exported
                SELECT key, digest, $stamp,
                       list_position($numbers, file) = list_position($digests, filename)
                FROM (SELECT key, file FROM live WHERE changed) AS changed
                POSITIONAL JOIN read_csv($digests, columns = {'digest': 'UUID'}, header = false,
                                         auto_detect = false, parallel = false, filename = true)
                                AS digests
                """,
                numbers=[number for number, changed in enumerate(self.changed) if changed],
                stamp=stamp,
                digests=list(map(str, digests)),
            )
        # A positional join adds NULLs to the shorter side.
        misfits = self._number("SELECT count(*) FROM exported WHERE fits IS NOT TRUE")
        rows = "SELECT key, digest, stamp FROM exported"
        if base is not None:
            self._read(base=base)
            rows += " UNION ALL FROM base SEMI JOIN (FROM live WHERE NOT changed) USING (key)"
        if misfits or self._copy(rows, target) != self.rows:
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
        self._read_csv("wanted", wanted)
        unknown = "SELECT coalesce(min(mark::BIGINT), 0) FROM wanted ANTI JOIN newest USING (key)"
        if number := self._number(unknown):
            raise errors.InvalidParams(
                f"The set has no row with the key in line {number} of {keys.name}."
            )
        return self._copy("FROM newest SEMI JOIN wanted USING (key)", target)

    def removed_since(self, earlier: Path, later: Path, target: Path) -> int:
        """Write the rows of `earlier` that `later` lacks or has with another content; return their
        number."""
        self._read(earlier=earlier, later=later)
        return self._copy("FROM earlier ANTI JOIN later USING (digest)", target)

    def restamp(self, file: Path, stamp: str, target: Path) -> None:
        """Write the rows of a key file as those of the set `stamp`."""
        self._read(chosen=file)
        self._copy("SELECT key, digest, $stamp AS stamp FROM chosen", target, stamp=stamp)

    def difference(self, earlier: Path, later: Path) -> TableDifference:
        """The number of changes. Digests of both files must be of the same columns and format."""
        self._compare(earlier, later)
        query = "SELECT change, count(*) FROM differing GROUP BY change"
        counts = dict.fromkeys(get_args(Change), 0) | dict(self._run(query).fetchall())
        return TableDifference(**counts)

    def differing_keys(self, earlier: Path, later: Path) -> Iterator[tuple[Change, dict[str, str]]]:
        """The changed keys, in no particular order."""
        self._compare(earlier, later)
        for change, *values in self._rows("SELECT change, unnest(key) FROM differing"):
            yield change, dict(zip(self._columns, values, strict=True))

    def _compare(self, earlier: Path, later: Path) -> None:
        # Equal digests are equal rows. A join by digest takes a quarter of the time of one by key.
        self._read(earlier=earlier, later=later)
        self._run(
            """
            CREATE OR REPLACE VIEW differing AS
            SELECT CASE WHEN a.key IS NULL THEN 'added' WHEN b.key IS NULL THEN 'removed'
                        ELSE 'changed' END AS change,
                   coalesce(a.key, b.key) AS key
            FROM (FROM earlier ANTI JOIN later USING (digest)) AS a
            FULL JOIN (FROM later ANTI JOIN earlier USING (digest)) AS b ON a.key = b.key
            """
        )

    def _read(self, **files: Path) -> None:
        """Make each key file a view: key, digest, stamp."""
        for name, file in files.items():
            rows = self._connection.read_parquet(str(file))
            rows.project(f"{self._key(self._stored)}, digest, stamp").create_view(name)

    def _read_csv(self, name: str, *files: Path) -> None:
        """Make files that PostgreSQL's COPY wrote a view: key, mark, filename; in their order. The
        mark comes first: DuckDB would skip a byte order mark there, which can be the beginning of a
        key."""
        from duckdb import CSVLineTerminator

        rows = self._connection.read_csv(
            list(map(str, files)),
            columns=dict.fromkeys(["mark", *self._fields], "VARCHAR"),
            header=False,
            auto_detect=False,
            quotechar='"',
            escapechar='"',
            allow_quoted_nulls=False,
            lineterminator=CSVLineTerminator.LINE_FEED,
            filename=True,
            parallel=False,  # A thread can mistake a quoted line feed for the end of a row.
        )
        rows.project(f"{self._key(self._fields)}, mark, filename").create_view(name)

    def _key(self, columns: Sequence[str]) -> str:
        return f"struct_pack({', '.join(map('{} := {}'.format, self._fields, columns))}) AS key"

    def _copy(self, rows: str, target: Path, **parameters: str) -> int:
        """Write a key file with the rows of a query: key, digest, stamp. Return their number."""
        columns = ", ".join(map("key.{} AS {}".format, self._fields, self._stored))
        query = f"SELECT {columns}, digest, stamp FROM ({rows})"  # noqa: S608 - names are quoted
        form = "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1"
        return self._number(f"COPY ({query}) TO $target ({form})", target=str(target), **parameters)

    def _number(self, query: str, **parameters: str) -> int:
        [(number,)] = self._run(query, **parameters).fetchall()
        return int(number)

    def _rows(self, query: str, **parameters: str) -> Iterator[tuple[Any, ...]]:
        result = self._run(query, **parameters)
        while rows := result.fetchmany(_BATCH):
            yield from rows

    def _run(self, statement: str, **parameters: str | list[str] | list[int]) -> DuckDBPyConnection:
        return self._connection.execute(statement, parameters)


def hash_scanned(files: Sequence[Path]) -> tuple[str, int]:
    """The SHA-256 of scanned files, as if no row had changed, and the number of lines that begin
    with the mark of a changed row. A line can also begin inside a key: so the hash stands for the
    keys if that number is right."""
    sha256, marked = hashlib.sha256(), 0
    for path in files:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                data = b"\n" + chunk + file.readline()
                marked += data.count(b"\nt,")
                sha256.update(data.replace(b"\nt,", b"\nf,")[1:])
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
