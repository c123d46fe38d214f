"""A chain with a missing or damaged file is detected, and nothing is restored from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from vector_backup_pipeline.engine.catalog.locations import ListedBackup, list_backups
from vector_backup_pipeline.engine.errors import IntegrityError
from vector_backup_pipeline.engine.file_names import manifest_name, verdict_name
from vector_backup_pipeline.engine.results import SetVerdict, VerifyResult
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.engine.verification.run import VerifyRun, verdict_lines
from vector_backup_pipeline.parameters.verify import VerifyParameters
from vector_backup_pipeline_tests.fix_backup import TIMESTAMPS, BackupMaker
from vector_backup_pipeline_tests.fix_chains import Chain, ChainMaker
from vector_backup_pipeline_tests.fix_postgres import Database
from vector_backup_pipeline_tests.fix_prune import prune_root
from vector_backup_pipeline_tests.fix_restore import (
    TRUNCATING,
    RestoreMaker,
    kept_from_locking,
    rows_of,
)

Harm = Callable[[Path], AbstractContextManager[None]]


@pytest.fixture
def chain(make_chain: ChainMaker) -> Chain:
    return make_chain()


@contextmanager
def damaged(path: Path) -> Iterator[None]:
    """In the block, a byte in the middle of the file is another one."""
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    yield
    path.write_bytes(data)


@contextmanager
def missing(path: Path) -> Iterator[None]:
    away = path.with_name("away")
    path.rename(away)
    yield
    away.rename(path)


def _files(chain: Chain) -> list[tuple[str, Path]]:
    """The stamp and path of each file that a restore of the newest set needs."""
    files = []
    for stamp in chain.stamps:
        paths = sorted(chain.directory.glob(f"*{stamp}*"))
        assert len(paths) == 3, paths
        files += [(stamp, path) for path in paths]
    return files


def _list(root: Path) -> dict[str, ListedBackup]:
    (location,) = list_backups(BackupRoot(str(root), "vector_bak"), TIMESTAMPS).backup_locations
    return {backup.timestamp: backup for backup in location.backups}


def _verify(root: Path, **parameters: Any) -> VerifyResult:
    run = VerifyRun(
        VerifyParameters(**parameters),
        BackupRoot(str(root), "vector_bak"),
        TIMESTAMPS,
        lambda: pytest.fail("no drill"),
        lock_timeout=1.0,
        run_id="verify",
    )
    for found in run.find():
        run.verify(found.key)
    return run.close()


@pytest.mark.parametrize("harm", [damaged, missing])
def test_no_file_of_a_chain_can_be_damaged_or_missing(
    chain: Chain, restore: RestoreMaker, harm: Harm
) -> None:
    newest = chain.stamps[-1]
    for stamp, path in _files(chain):
        run = restore.run(timestamp=newest)
        if path.name == manifest_name(newest):
            continue  # Without it there is no set.
        with harm(path), pytest.raises(IntegrityError) as refusal:
            run.find()
        run.close()
        assert newest in refusal.value.message
        assert stamp in refusal.value.message
    restore.run(timestamp=newest).find()


def test_the_target_is_untouched(database: Database, chain: Chain, restore: RestoreMaker) -> None:
    first = chain.stamps[0]
    with damaged(chain.backups[0].path("docs")), kept_from_locking(database, "docs"):
        restore.fails(
            database, "INTEGRITY_ERROR", first, "builds on", timestamp="latest", **TRUNCATING
        )


def test_a_file_that_changes_during_the_load_is_detected(
    database: Database, chain: Chain, restore: RestoreMaker
) -> None:
    path = chain.backups[0].path("docs")
    data = path.read_bytes()
    changed = data.replace(b'\n4,"say', b'\n4,"SAY')
    assert changed != data

    cases: list[tuple[dict[str, Any], str]] = [
        (TRUNCATING, "content digest"),
        ({"on_conflict": "skip"}, "changed while"),
    ]
    restore.between["load"] = lambda: _rewrite(path, changed)
    for parameters, message in cases:
        restore.fails(database, "INTEGRITY_ERROR", message, **parameters)
        path.write_bytes(data)


def _rewrite(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def test_sets_that_build_on_a_missing_or_damaged_one_are_damaged(
    database: Database, chain: Chain, restore: RestoreMaker
) -> None:
    first, second, third, fourth = chain.stamps
    root = restore.root
    assert [backup.state for backup in _list(root).values()] == ["complete"] * 4
    assert {backup.mode for backup in _list(root).values()} == {"full", "incremental"}
    listed = _list(root)[fourth]
    assert listed.builds_on == third
    assert listed.tables["docs"].rows == database.ask_one("SELECT count(*) FROM docs")
    assert any(name.endswith(".keys.parquet") for name in listed.files)

    with missing(chain.backups[1].path("docs")):
        states = {stamp: backup.state for stamp, backup in _list(root).items()}
        assert states == {fourth: "damaged", third: "damaged", second: "damaged", first: "complete"}

    with missing(chain.directory / manifest_name(second)):
        states = {stamp: backup.state for stamp, backup in _list(root).items()}
        assert states == {fourth: "damaged", third: "damaged", first: "complete"}
        restore.fails(database, "INTEGRITY_ERROR", second, "is missing", timestamp=fourth)
        done = restore.succeeds(database, timestamp="latest", **TRUNCATING)
    assert rows_of(database) == chain.rows[0]
    assert done.result.backup_info is not None
    assert done.result.backup_info.timestamp == first
    assert any(third in notice and fourth in notice for notice in done.result.notices)


def test_verification_checks_the_files_that_a_set_builds_on(
    chain: Chain, restore: RestoreMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    original = BackupDirectory.read

    def reading(self: BackupDirectory, name: str, *rest: int) -> Iterator[bytes]:
        read.append(name)
        return original(self, name, *rest)

    monkeypatch.setattr(BackupDirectory, "read", reading)
    files = [path.name for _, path in _files(chain) if not path.name.endswith(".json")]
    result = _verify(restore.root)

    assert result.verified, result.errors
    first, *_, last = (verdict_lines(verdict)[1] for verdict in result.sets)
    assert f"docs: 202 rows in {chain.backups[0].path('docs').name} (" in first
    assert "docs: 183 rows in 4 files (" in last
    assert [verdict.passed for verdict in result.sets] == [True] * 4
    assert [read.count(name) for name in files] == [1] * len(files)

    for damaged_set, backup in enumerate(chain.backups):
        for path in (backup.path("docs"), _keys(chain, damaged_set)):
            with damaged(path):
                result = _verify(restore.root)
            passed = [verdict.passed for verdict in result.sets]
            assert passed == [number < damaged_set for number in range(4)]
            assert all(path.name in "".join(v.errors) for v in result.sets if not v.passed)
            assert all(
                chain.stamps[damaged_set] in "".join(v.errors) for v in result.sets[damaged_set:]
            )


def test_verification_of_one_set_reads_its_chain_alone(chain: Chain, restore: RestoreMaker) -> None:
    first, second, third, _ = chain.stamps
    with damaged(chain.backups[3].path("docs")):
        verdict = _only(_verify(restore.root, timestamp=third))
    assert verdict.passed
    with missing(chain.directory / manifest_name(first)):
        verdict = _only(_verify(restore.root, timestamp=second))
    assert verdict.files_passed is False
    assert first in verdict.errors[0]
    with damaged(_keys(chain, 0)):
        _verify(restore.root, timestamp=first)
    # The verdict on a base is one on all that build on it.
    assert (chain.directory / verdict_name(first)).exists()
    assert {backup.state for backup in _list(restore.root).values()} == {"damaged"}


def test_no_backup_builds_on_a_base_that_a_later_sets_verification_refutes(
    database: Database, chain: Chain, restore: RestoreMaker, backup: BackupMaker
) -> None:
    with damaged(chain.backups[0].path("docs")), damaged(_keys(chain, 2)):
        verdict = _only(_verify(restore.root, timestamp="latest"))

    assert verdict.timestamp == chain.stamps[3]
    assert {listed.state for listed in _list(restore.root).values()} == {"damaged"}
    made = backup(database.url, tables=("docs",), truncate_tables=(), mode="auto")
    assert made.manifest.builds_on is None


def test_a_prune_keeps_what_a_kept_set_builds_on(
    database: Database, chain: Chain, restore: RestoreMaker
) -> None:
    pruned = prune_root(restore.root, dry_run=False)

    assert pruned.removed == []
    assert pruned.kept[chain.stamps[0]] == f"{chain.stamps[1]} builds on it"
    restore.succeeds(database, timestamp="latest", **TRUNCATING)
    assert rows_of(database) == chain.rows[-1]


def test_a_prune_removes_a_chain_with_its_key_files(
    database: Database, chain: Chain, restore: RestoreMaker, backup: BackupMaker
) -> None:
    made = backup(database.url, tables=("docs",), truncate_tables=(), mode="full")

    pruned = prune_root(restore.root, dry_run=False)

    assert pruned.removed == [*reversed(chain.stamps)]
    assert len(made.names) == 3, "a file, a manifest and the log"


def _keys(chain: Chain, number: int) -> Path:
    (path,) = chain.directory.glob(f"docs_{chain.stamps[number]}.keys.parquet")
    return path


def _only(result: VerifyResult) -> SetVerdict:
    (verdict,) = result.sets
    return verdict
