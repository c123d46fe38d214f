"""A stored table is proven down to its rows, and the error says what differs."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vector_backup_pipeline.engine.errors import IntegrityError, ResourceNotFound
from vector_backup_pipeline.engine.formats.csv import csv_record
from vector_backup_pipeline.engine.manifest import DataFile
from vector_backup_pipeline.engine.storage import local
from vector_backup_pipeline.engine.storage.local import LocalDirectory
from vector_backup_pipeline.engine.stored_files import check_rows
from vector_backup_pipeline_tests.fix_backup import LANGCHAIN, BackupMaker
from vector_backup_pipeline_tests.fix_postgres import Database
from vector_backup_pipeline_tests.fix_sets import stored_file

COLUMNS = ["id", 'say "hi",\nthen go']
RECORDS = [csv_record([str(n), f"line\n{n}" if n % 3 else 'a "b"']) for n in range(100)]
VALUES = st.one_of(st.none(), st.text(st.sampled_from('a,"\n\r é'), max_size=9))


@pytest.fixture
def file(tmp_path: Path) -> DataFile:
    """A sound file of 100 rows in four blocks."""
    return stored_file(tmp_path / "t_20250102_030405.csv", COLUMNS, RECORDS, rows_a_block=30)


def _faults(path: Path, file: DataFile) -> str:
    with pytest.raises(IntegrityError) as raised:
        check_rows(LocalDirectory(path), file)
    assert f"{path}/{file.name} is not what was written" in raised.value.message
    assert "make a new backup" in raised.value.message
    return raised.value.message


def test_what_a_backup_wrote_is_proven(langchain: Database, backup: BackupMaker) -> None:
    made = backup(langchain.url)

    for table in LANGCHAIN:
        check_rows(LocalDirectory(made.directory), made.file(table))


@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_a_sound_file_is_proven_whatever_its_chunks(
    tmp_path: Path, file: DataFile, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "READ_BYTES", chunk)

    check_rows(LocalDirectory(tmp_path), file)


@given(st.lists(st.lists(VALUES, min_size=2, max_size=2).map(csv_record)), st.integers(1, 5))
def test_any_rows_are_proven(
    tmp_path_factory: pytest.TempPathFactory, records: list[bytes], rows: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "any" / "t_20250102_030405.csv"
    file = stored_file(path, ["a", "b"], records, rows)

    check_rows(LocalDirectory(path.parent), file)


@pytest.mark.parametrize("columns", [[], ["only"]], ids=["no column", "one column"])
def test_rows_of_nothing_are_rows(tmp_path: Path, columns: list[str]) -> None:
    file = stored_file(tmp_path / "t_20250102_030405.csv", columns, [b"\n"] * 5, 2)

    check_rows(LocalDirectory(tmp_path), file)


@pytest.mark.parametrize("at", [0, 20, 30, 700, -2, -1])
def test_a_changed_byte_is_found(tmp_path: Path, file: DataFile, at: int) -> None:
    path = tmp_path / file.name
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)

    assert "SHA-256 is " in _faults(tmp_path, file)


@pytest.mark.parametrize("left", [0, 5, 26, 400, -1])
def test_a_file_that_was_cut_is_found(tmp_path: Path, file: DataFile, left: int) -> None:
    path = tmp_path / file.name
    data = path.read_bytes()
    path.write_bytes(data[:left])

    told = _faults(tmp_path, file)

    assert f"size in bytes is {len(data[:left])}, expected {len(data)}" in told
    assert "SHA-256" in told
    assert "the number of rows is " in told


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"rows": 101}, "the number of rows is 100, expected 101"),
        ({"sha256": "0" * 64}, f"expected {'0' * 64}"),
        ({"bytes": 1}, "expected 1"),
    ],
    ids=["rows", "hash", "size"],
)
def test_a_manifest_that_says_otherwise_is_told(
    tmp_path: Path, file: DataFile, change: dict[str, Any], told: str
) -> None:
    assert told in _faults(tmp_path, file.model_copy(update=change))


def test_other_columns_and_another_digest_are_told(tmp_path: Path, file: DataFile) -> None:
    renamed = file.digest.model_copy(update={"columns": ["id", "b"], "value": "0" * 32})

    told = _faults(tmp_path, file.model_copy(update={"digest": renamed}))

    assert "its first line does not name the manifest's columns" in told
    assert "then go" not in told, "what a file begins with is nobody's business"
    assert f"expected {'0' * 32}" in told


def test_a_file_that_is_gone_is_not_found(tmp_path: Path, file: DataFile) -> None:
    (tmp_path / file.name).unlink()

    with pytest.raises(ResourceNotFound):
        check_rows(LocalDirectory(tmp_path), file)


def test_memory_does_not_grow_with_the_file_even_when_a_quote_is_lost(tmp_path: Path) -> None:
    records = [csv_record([str(n), "x" * 1000]) for n in range(20_000)]
    file = stored_file(tmp_path / "t_20250102_030405.csv", ["a", "b"], records)
    data = bytearray((tmp_path / file.name).read_bytes())
    data[5000] = ord('"')
    (tmp_path / file.name).write_bytes(data)
    del records, data

    tracemalloc.start()
    told = _faults(tmp_path, file)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert "never closed" in told
    assert "SHA-256" in told
    assert "size in bytes" not in told
    assert peak < 12 << 20
