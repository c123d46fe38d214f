"""Round trips of rows: an independent reader of stored files, and loads of them with psql."""

# ruff: noqa: S608 - the names in these statements are the tests' own

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import xxhash

from vector_backup_pipeline.engine.manifest import DataFile
from vector_backup_pipeline.parameters.types import ExportMethod
from vector_backup_pipeline_tests.fix_backup import BackupMaker, FinishedBackup
from vector_backup_pipeline_tests.fix_postgres import Database

METHODS: tuple[ExportMethod, ...] = ("copy", "cursor")

# Rows compared by the types' binary output: stricter than `=`, which json lacks and which takes -0
# for 0, and independent of the text output in the file.
BINARY = "record_send(t)"


def records_of(data: bytes) -> list[bytes]:
    """The CSV records in `data` without line ends. A line feed inside quotes ends no record."""
    *lines, rest = data.split(b"\n")
    assert rest == b"", "the last record has no line end"
    records, open_lines, quotes = [], [], 0
    for line in lines:
        open_lines.append(line)
        quotes += line.count(b'"')
        if quotes % 2 == 0:
            records.append(b"\n".join(open_lines))
            open_lines = []
    assert not open_lines, "a quote was never closed"
    return records


def rows_in(path: Path) -> list[bytes]:
    """The file's records without its header."""
    return records_of(path.read_bytes())[1:]


def digest_of(records: list[bytes]) -> str:
    total = sum(xxhash.xxh3_128_intdigest(record) for record in records)
    return f"{total % 2**128:032x}"


def assert_index_fits(file: DataFile, data: bytes) -> None:
    """Check that the blocks contain whole rows in the stated number, and the whole file after its
    header."""
    end = len(records_of(data)[0]) + 1
    for entry in file.blocks:
        assert entry.offset == end
        end += entry.length
        assert len(records_of(data[entry.offset : end])) == entry.rows
    assert end == len(data)
    assert sum(entry.rows for entry in file.blocks) == file.rows


@dataclass
class RoundTrip:
    """Backs up, loads and compares tables of one database.

    A call proves what a user of the file of `table` relies on. `table` is the name in a backup's
    parameters, `name` the name in SQL.
    """

    database: Database
    backup: BackupMaker

    def __call__(self, table: str, name: str | None = None, rows: str = BINARY) -> FinishedBackup:
        name = name or quoted(table)
        made = self.export(table)
        self.assert_file_is_true(made, table)
        fetched = self.export(table, export_method="cursor")
        assert fetched.path(table).read_bytes() == made.path(table).read_bytes()
        restored = self.load(made.path(table), name)
        self.assert_same_rows(name, restored, rows)
        again = self.export(restored)
        assert again.file(restored).digest == made.file(table).digest
        assert again.file(restored).rows == made.file(table).rows
        return made

    def export(self, table: str, **parameters: Any) -> FinishedBackup:
        made = self.backup(self.database.url, tables=(table,), **{"workers": 1, **parameters})
        assert made.error is None, made.error
        return made

    def assert_file_is_true(self, made: FinishedBackup, table: str) -> None:
        file, data = made.file(table), made.path(table).read_bytes()
        _, *records = records_of(data)
        assert len(records) == file.rows
        assert digest_of(records) == file.digest.value
        assert_index_fits(file, data)

    def load(self, path: Path, name: str) -> str:
        """Load a file as users do, with psql, into an empty table like `name`; returns its name."""
        self.database.run("DROP TABLE IF EXISTS restored")
        self.database.run(f"CREATE TABLE restored (LIKE {name} INCLUDING ALL)")
        self.copy_in(path, "restored")
        return "restored"

    def copy_in(self, path: Path, name: str) -> None:
        # \copy reads a file name without quotes up to the next space.
        plain = path.parent.parent / "to_load.csv"
        shutil.copyfile(path, plain)
        # As in a UTF-8 terminal, with any default of the database.
        self.database.psql(
            f"SET client_encoding = 'UTF8';\n\\copy {name} from '{plain}' csv header"
        )

    def assert_same_rows(self, name: str, restored: str, rows: str = BINARY) -> None:
        left, right = f"SELECT {rows} FROM {name} t", f"SELECT {rows} FROM {restored} t"
        with self.database.session() as connection, connection.cursor() as cursor:
            connection.set_client_encoding("UTF8")
            cursor.execute(f"""
                SELECT (SELECT count(*) FROM {name}) - (SELECT count(*) FROM {restored}),
                       (SELECT count(*) FROM ({left} EXCEPT ALL {right}) lost),
                       (SELECT count(*) FROM ({right} EXCEPT ALL {left}) invented)""")
            assert cursor.fetchall() == [(0, 0, 0)]


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@pytest.fixture
def round_trip(backup: BackupMaker) -> Callable[[Database], RoundTrip]:
    """Makes a `RoundTrip` over a database."""
    return lambda database: RoundTrip(database, backup)


@pytest.fixture
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Cut tables of a few blocks into ranges, like large ones."""
    monkeypatch.setattr("vector_backup_pipeline.engine.postgres.ranges._RANGE_BYTES", 16 << 10)
    yield
