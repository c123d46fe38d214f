"""Unique timestamps of runs, and the cleanup after dead runs."""

import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from vector_backup_pipeline.engine import catalog
from vector_backup_pipeline.engine.catalog.claims import claim_timestamp, remove_leftovers
from vector_backup_pipeline.engine.errors import StorageError
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.storage.local_store import LocalStore
from vector_backup_pipeline.engine.timestamps import DEFAULT_TIMESTAMPS, TimestampFormat

_NOON = datetime(2026, 1, 1, 12, 0, 0, tzinfo=timezone.utc)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BackupDirectory:
    """A directory, with the clock stopped at noon."""
    monkeypatch.setattr(TimestampFormat, "now", lambda _: _NOON)
    return BackupDirectory(LocalStore(tmp_path))


def _stamp(seconds: int) -> str:
    return DEFAULT_TIMESTAMPS.stamp(_NOON + timedelta(seconds=seconds))


@pytest.mark.parametrize(
    "taken",
    [
        "vector_backup_{}.json",
        "langchain_pg_embedding_{}.csv",
        "langchain_pg_embedding_{}.csv.tmp",
        "vector_backup_{}.json.tmp",
        "vector_backup_{}.tombstone.json",
        "vector_backup_{}.verified.json",
        ".vector_backup_{}.run",
    ],
)
def test_a_second_that_has_a_file_is_passed_over(
    directory: BackupDirectory, tmp_path: Path, taken: str
) -> None:
    (tmp_path / taken.format(_stamp(0))).touch()
    stamp, claim = claim_timestamp(directory, "run")
    assert stamp == _stamp(1)
    claim.release()


def test_runs_of_one_second_take_the_following_ones(directory: BackupDirectory) -> None:
    claimed = [claim_timestamp(directory, "run") for _ in range(3)]
    assert [stamp for stamp, _ in claimed] == [_stamp(0), _stamp(1), _stamp(2)]
    for _, claim in claimed:
        claim.release()


def test_too_many_runs_are_an_error(
    directory: BackupDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog.claims, "_TRIES", 2)
    claims = [claim_timestamp(directory, "run")[1] for _ in range(2)]
    with pytest.raises(StorageError, match="No free timestamp"):
        claim_timestamp(directory, "run")
    for claim in claims:
        claim.release()


def test_nothing_is_claimed_if_the_directory_cannot_be_listed_again(
    directory: BackupDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def list_again() -> list[str]:
        raise StorageError("Could not list the directory.")

    lists = iter([list, list_again])
    monkeypatch.setattr(directory, "names", lambda: next(lists)())
    with pytest.raises(StorageError, match="Could not list"):
        claim_timestamp(directory, "run")
    assert not list(tmp_path.iterdir())


def test_only_what_is_unfinished_and_has_no_live_run_is_removed(
    directory: BackupDirectory, tmp_path: Path
) -> None:
    stamp, live = claim_timestamp(directory, "run")
    dead = _stamp(-60)
    announcement = f".vector_backup_{dead}.run.{'0' * 32}.tmp"
    removed = [f"a_{dead}.csv.tmp", f"vector_backup_{dead}.json.tmp", announcement]
    kept = [
        f"a_{stamp}.csv.tmp",
        f"vector_backup_{stamp}.json.tmp",
        f"a_{dead}.csv",
        f"vector_backup_{dead}.json",
        f".vector_backup_{dead}.run.{'1' * 32}.tmp",
        "vector_backup_log.txt",
        "somebody's.tmp",
        f"a{dead}.csv.tmp",
    ]
    for name in [*removed, *kept]:
        (tmp_path / name).touch()
    os.utime(tmp_path / announcement, (0, 0))

    remove_leftovers(directory)
    assert set(directory.names()) == {*kept, f".vector_backup_{stamp}.run"}
    live.release()
