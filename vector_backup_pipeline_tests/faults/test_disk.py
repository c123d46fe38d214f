"""Disks that are full, read-only or removed: clear errors, no partial files or sets."""

import contextlib
import os
import pwd
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from vector_backup_pipeline.engine.backup import run as backup_run
from vector_backup_pipeline.engine.postgres.truncate import truncate_tables
from vector_backup_pipeline.engine.report import error_lines
from vector_backup_pipeline_tests.faults.watching import (
    COLLECTIONS,
    EMBEDDINGS,
    MORE_ROWS,
    count,
    error_type,
    wait_until_nothing_is_open,
)
from vector_backup_pipeline_tests.fix_backup import BackupMaker
from vector_backup_pipeline_tests.fix_postgres import Database

_SMALL_DISK = 1 << 20
_FILLER = "filler"


@contextlib.contextmanager
def _mounted(path: Path, *options: str) -> Iterator[None]:
    mounted = subprocess.run(
        ["mount", *options, str(path)], capture_output=True, text=True, check=False, timeout=60
    )
    if mounted.returncode:
        pytest.skip(f"may not mount here: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True, timeout=60)


@pytest.fixture
def small_disk(backup: BackupMaker) -> Iterator[Path]:
    """The root of the backups on a file system of 1 MiB."""
    with _mounted(backup.root, "-t", "tmpfs", "-o", f"size={_SMALL_DISK}", "tmpfs"):
        (backup.root / "vector_bak").mkdir()
        yield backup.root


def _fill(root: Path) -> None:
    """Fill the disk completely: no file can grow."""
    with contextlib.suppress(OSError), (root / _FILLER).open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def test_a_table_too_big_for_the_disk_fails_alone_and_leaves_no_file(
    langchain: Database, backup: BackupMaker, small_disk: Path
) -> None:
    langchain.run(MORE_ROWS)
    made = backup(langchain.url, tables=(EMBEDDINGS, COLLECTIONS), truncate_vector_tables=True)

    assert error_type(made.error) == "STORAGE_ERROR"
    assert "Free space" in str(made.error)
    assert not made.manifest.complete
    assert not [name for name in made.names if name.startswith(EMBEDDINGS)]
    assert made.file(COLLECTIONS).rows == 4, "the other table has its turn"
    assert (
        "✗ langchain_pg_embedding: FAILED" in (made.directory / "vector_backup_log.txt").read_text()
    )
    assert count(langchain) == 2558
    wait_until_nothing_is_open(langchain)


def test_a_disk_that_is_full_after_the_truncate_leaves_the_pending_manifest(
    langchain: Database, backup: BackupMaker, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def truncate_and_fill(*arguments: object) -> object:
        truncated = truncate_tables(*arguments)  # type: ignore[arg-type]
        _fill(small_disk)
        return truncated

    monkeypatch.setattr(backup_run, "truncate_tables", truncate_and_fill)
    made = backup(langchain.url, truncate_vector_tables=True)

    assert error_type(made.error) == "STORAGE_ERROR"
    assert made.manifest.complete
    assert made.manifest.truncate == "pending"
    assert made.result.truncate_performed
    assert made.result.backup_performed
    assert made.file(EMBEDDINGS).rows == 58
    assert count(langchain) == 0


def test_a_disk_without_room_for_the_marker_of_a_run_begins_none(
    langchain: Database, backup: BackupMaker, small_disk: Path
) -> None:
    _fill(small_disk)

    made = backup(langchain.url)

    assert error_type(made.error) == "STORAGE_ERROR"
    assert list((small_disk / "vector_bak").iterdir()) == []


def test_a_disk_that_is_full_at_the_log_keeps_the_set_and_the_log_of_before(
    langchain: Database, backup: BackupMaker, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = small_disk / "vector_bak" / "vector_backup_log.txt"
    # A page of tmpfs except a few bytes, into which a part of the section would fit.
    log.write_text("an earlier section\n".ljust(4086, "."))
    before = log.read_text()

    def lines_on_a_full_disk(errors: list[str]) -> list[str]:
        _fill(small_disk)
        return error_lines(errors)

    monkeypatch.setattr(backup_run, "error_lines", lines_on_a_full_disk)
    made = backup(langchain.url)

    assert error_type(made.error) == "STORAGE_ERROR"
    assert made.result.backup_performed
    assert any("STORAGE_ERROR" in line for line in made.result.errors)
    assert made.manifest.complete
    assert log.read_text() == before


def test_a_directory_one_may_not_write_to_is_a_clear_error(
    langchain: Database, backup: BackupMaker
) -> None:
    # Other users cannot enter pytest's own directory.
    with tempfile.TemporaryDirectory() as root:
        backup.root = Path(root)
        backup.root.chmod(0o755)
        (backup.root / "vector_bak").mkdir(mode=0o555)
        with _as_somebody_else():
            made = backup(langchain.url)

    assert error_type(made.error) == "STORAGE_ERROR"
    assert "Could not create" in str(made.error)
    assert "Let this process's user write there" in str(made.error)


@contextlib.contextmanager
def _as_somebody_else() -> Iterator[None]:
    """Root may write anywhere; another user may not (this thread's file access only)."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(pwd.getpwnam("nobody").pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_directory_that_vanishes_fails_the_run_and_truncates_nothing(
    langchain: Database, backup: BackupMaker
) -> None:
    directory = backup.root / "vector_bak"

    def move() -> None:
        directory.rename(backup.root / "moved")

    backup.between["truncate"] = move

    made = backup(langchain.url, truncate_vector_tables=True)

    assert error_type(made.error) == "RESOURCE_NOT_FOUND"
    assert not made.result.backup_performed
    assert count(langchain) == 58
    wait_until_nothing_is_open(langchain)
