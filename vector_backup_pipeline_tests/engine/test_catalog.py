"""Which directories count as backed up."""

from pathlib import Path

import pytest

from vector_backup_pipeline.engine.catalog.contents import has_backup, stamps_in_use
from vector_backup_pipeline.engine.errors import StorageError
from vector_backup_pipeline.engine.storage.local import LocalDirectory
from vector_backup_pipeline_tests.fix_backup import TIMESTAMPS, BackupMaker
from vector_backup_pipeline_tests.fix_postgres import Database
from vector_backup_pipeline_tests.fix_sets import SetWriter

STAMP = "20250102_030405"
OLDER = b"id,document\r\n1,text\r\n"


def _backed_up(path: Path) -> bool:
    return has_backup(LocalDirectory(path), TIMESTAMPS)


def test_an_empty_directory_has_no_backup(tmp_path: Path) -> None:
    assert not _backed_up(tmp_path)


def test_a_finished_set_is_a_backup(langchain: Database, backup: BackupMaker) -> None:
    assert _backed_up(backup(langchain.url).directory)


def test_a_set_with_a_failed_table_is_none(langchain: Database, backup: BackupMaker) -> None:
    made = backup(langchain.url, tables=("langchain_pg_collection", "nope"))

    assert not made.manifest.complete
    assert not _backed_up(made.directory)


def test_a_complete_set_counts_beside_an_incomplete_and_a_damaged_one(
    langchain: Database, backup: BackupMaker
) -> None:
    made = backup(langchain.url)
    manifest = made.directory / f"vector_backup_{made.stamp}.json"
    SetWriter(made.directory).write("20200101_000000", {}, failed=["t"])
    (made.directory / "vector_backup_20200101_000001.json").write_text("{")

    assert _backed_up(made.directory)
    manifest.unlink()
    assert not _backed_up(made.directory)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"complete": true}', b"\xff\xfe"])
def test_a_damaged_manifest_is_no_backup(tmp_path: Path, content: bytes) -> None:
    (tmp_path / f"vector_backup_{STAMP}.json").write_bytes(content)

    assert not _backed_up(tmp_path)


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
def test_the_older_systems_files_are_a_backup_once_adopted(tmp_path: Path, line_end: bytes) -> None:
    sets = SetWriter(tmp_path)
    sets.older(STAMP, line_end=line_end)
    assert not _backed_up(tmp_path)

    sets.adopt()
    assert _backed_up(tmp_path)


@pytest.mark.parametrize(
    "name", [f"t_{STAMP}.csv.tmp", "t.csv", "t_20251399_000000.csv", "log.txt"]
)
def test_a_file_of_another_name_is_no_backup(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(OLDER)

    assert not _backed_up(tmp_path)


def test_what_can_not_be_read_is_an_error_and_not_a_missing_backup(tmp_path: Path) -> None:
    manifest = tmp_path / f"vector_backup_{STAMP}.json"
    manifest.symlink_to(manifest)  # Nobody can follow it.

    with pytest.raises(StorageError):
        _backed_up(tmp_path)


def test_stamps_in_use_are_those_of_every_kind_of_file_but_one(tmp_path: Path) -> None:
    names = {
        "t_20250101_000001.csv",
        "t_20250101_000002.csv.tmp",
        "vector_backup_20250101_000003.json",
        ".vector_backup_20250101_000004.run",
        ".vector_backup_20250101_000005.run",
        f".vector_backup_20250101_000005.run.{'0' * 32}",
        "vector_backup_20250101_000006.verified.json",
        "vector_backup_log.txt",
    }
    for name in names:
        (tmp_path / name).touch()

    found = stamps_in_use(LocalDirectory(tmp_path), TIMESTAMPS, but_marker_of="20250101_000005")

    assert found == {f"20250101_00000{n}" for n in (1, 2, 3, 4, 6)}
