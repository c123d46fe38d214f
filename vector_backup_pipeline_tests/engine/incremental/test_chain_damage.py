"""A chain with a missing or damaged file is detected, and nothing is restored from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from vector_backup_pipeline.engine.catalog.locations import (
    ListedBackup,
    find_locations,
    list_backups,
)
from vector_backup_pipeline.engine.errors import IntegrityError
from vector_backup_pipeline.engine.file_names import manifest_name, verdict_name
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.engine.timestamps import DEFAULT_TIMESTAMPS
from vector_backup_pipeline.engine.verification.run import verdict_lines
from vector_backup_pipeline_tests.fix_backup import BackupMaker
from vector_backup_pipeline_tests.fix_chains import Chain, damaged, missing
from vector_backup_pipeline_tests.fix_prune import prune_root
from vector_backup_pipeline_tests.fix_restore import (
    TRUNCATING,
    RestoreMaker,
    kept_from_locking,
    no_target,
    rows_of,
)
from vector_backup_pipeline_tests.fix_verify import verify_root


def _files(chain: Chain, stamp: str) -> list[Path]:
    """The data file, the key file and the manifest of a set."""
    names = (f"docs_{stamp}.csv", f"docs_{stamp}.keys.parquet", manifest_name(stamp))
    return [chain.directory / name for name in names]


def _list(root: Path) -> dict[str, ListedBackup]:
    locations = find_locations(BackupRoot(str(root), "vector_bak"))
    (location,) = list_backups(locations, DEFAULT_TIMESTAMPS).backup_locations
    return {backup.timestamp: backup for backup in location.backups}


def _states(root: Path) -> dict[str, str]:
    return {stamp: backup.state for stamp, backup in _list(root).items()}


@pytest.mark.parametrize("harm", [damaged, missing])
def test_no_file_of_a_chain_can_be_damaged_or_missing(
    stored_chain: Chain,
    restore: RestoreMaker,
    harm: Callable[[Path], AbstractContextManager[None]],
) -> None:
    newest = stored_chain.stamps[-1]
    assert len(list(stored_chain.directory.iterdir())) == 4 * 3 + 1, "there is nothing but the log"
    for stamp in stored_chain.stamps:
        for path in _files(stored_chain, stamp):
            if path.name == manifest_name(newest):
                continue  # Without it there is no set.
            run = restore.run(timestamp=newest)
            with harm(path), pytest.raises(IntegrityError) as refusal:
                run.find(no_target)
            run.close()
            assert newest in refusal.value.message
            assert stamp in refusal.value.message
    restore.run(timestamp=newest).find(no_target)


def test_the_target_is_untouched(stored_chain: Chain, restore: RestoreMaker) -> None:
    database, words = stored_chain.database, (stored_chain.stamps[0], "builds on")
    with damaged(stored_chain.backups[0].path("docs")), kept_from_locking(database, "docs"):
        restore.fails(database, "INTEGRITY_ERROR", *words, timestamp="latest", **TRUNCATING)


def test_a_file_that_changes_during_the_load_is_detected(
    stored_chain: Chain, restore: RestoreMaker
) -> None:
    path = stored_chain.backups[0].path("docs")
    data = path.read_bytes()
    changed = data.replace(b'\n4,"say', b'\n4,"SAY')
    assert changed != data

    def change() -> None:
        path.write_bytes(changed)

    cases: list[tuple[dict[str, Any], str]] = [
        (TRUNCATING, "content digest"),
        ({"on_conflict": "skip"}, "changed while"),
    ]
    restore.between["load"] = change
    for parameters, message in cases:
        restore.fails(stored_chain.database, "INTEGRITY_ERROR", message, **parameters)
        path.write_bytes(data)


def test_sets_that_build_on_a_missing_or_damaged_one_are_damaged(
    stored_chain: Chain, restore: RestoreMaker
) -> None:
    database, root = stored_chain.database, restore.root
    first, second, third, fourth = stored_chain.stamps
    listed = _list(root)
    assert [backup.state for backup in listed.values()] == ["complete"] * 4
    assert {backup.mode for backup in listed.values()} == {"full", "incremental"}
    assert listed[fourth].builds_on == third
    assert listed[fourth].tables["docs"].rows == database.ask_one("SELECT count(*) FROM docs")
    assert any(name.endswith(".keys.parquet") for name in listed[fourth].files)

    with missing(stored_chain.backups[1].path("docs")):
        states = {fourth: "damaged", third: "damaged", second: "damaged", first: "complete"}
        assert _states(root) == states

    with missing(stored_chain.directory / manifest_name(second)):
        assert _states(root) == {fourth: "damaged", third: "damaged", first: "complete"}
        restore.fails(database, "INTEGRITY_ERROR", second, "is missing", timestamp=fourth)
        done = restore.succeeds(database, timestamp="latest", **TRUNCATING)
    assert rows_of(database) == stored_chain.rows[0]
    assert done.result.backup_info is not None
    assert done.result.backup_info.timestamp == first
    assert any(third in notice and fourth in notice for notice in done.result.notices)


def test_verification_checks_the_files_that_a_set_builds_on(
    stored_chain: Chain, restore: RestoreMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: Counter[str] = Counter()
    original = BackupDirectory.read

    def reading(self: BackupDirectory, name: str, *rest: int) -> Iterator[bytes]:
        read[name] += 1
        return original(self, name, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(BackupDirectory, "read", reading)
        verdicts = verify_root(restore.root).sets

    assert [(verdict.passed, verdict.errors) for verdict in verdicts] == [(True, [])] * 4
    first, *_, last = (verdict_lines(verdict)[1] for verdict in verdicts)
    assert f"docs: 202 rows in {stored_chain.backups[0].path('docs').name} (" in first
    assert "docs: 183 rows in 4 files (" in last
    for number, stamp in enumerate(stored_chain.stamps):
        data_and_keys = _files(stored_chain, stamp)[:2]
        assert [read[path.name] for path in data_and_keys] == [1, 1]
        path = data_and_keys[number % 2]
        with damaged(path):
            verdicts = verify_root(restore.root).sets
        assert [verdict.passed for verdict in verdicts] == [i < number for i in range(4)]
        for verdict in verdicts[number:]:
            assert path.name in "".join(verdict.errors)
            assert stamp in "".join(verdict.errors)


def test_verification_of_one_set_reads_its_chain_alone(
    stored_chain: Chain, restore: RestoreMaker
) -> None:
    first, second, third, fourth = stored_chain.stamps
    with damaged(_files(stored_chain, fourth)[0]):
        (verdict,) = verify_root(restore.root, timestamp=third).sets
    assert verdict.passed
    with missing(stored_chain.directory / manifest_name(first)):
        (verdict,) = verify_root(restore.root, timestamp=second).sets
    assert verdict.files_passed is False
    assert first in verdict.errors[0]
    with damaged(_files(stored_chain, first)[1]):
        verify_root(restore.root, timestamp=first)
    # The verdict on a base is one on all that build on it.
    assert (stored_chain.directory / verdict_name(first)).exists()
    assert set(_states(restore.root).values()) == {"damaged"}


def test_no_backup_builds_on_a_base_that_a_later_sets_verification_refutes(
    stored_chain: Chain, restore: RestoreMaker, backup: BackupMaker
) -> None:
    first, _, third, fourth = stored_chain.stamps
    with damaged(_files(stored_chain, first)[0]), damaged(_files(stored_chain, third)[1]):
        (verdict,) = verify_root(restore.root, timestamp="latest").sets

    assert verdict.timestamp == fourth
    assert set(_states(restore.root).values()) == {"damaged"}
    made = backup(stored_chain.source.url, tables=("docs",), truncate_tables=(), mode="auto")
    assert made.manifest.builds_on is None


def test_a_prune_keeps_a_chain_that_a_kept_set_builds_on_and_removes_it_with_its_key_files(
    stored_chain: Chain, restore: RestoreMaker, backup: BackupMaker
) -> None:
    database, stamps = stored_chain.database, stored_chain.stamps

    pruned = prune_root(restore.root, dry_run=False)

    assert pruned.removed == []
    assert pruned.kept[stamps[0]] == f"{stamps[1]} builds on it"
    restore.succeeds(database, timestamp="latest", **TRUNCATING)
    assert rows_of(database) == stored_chain.rows[-1]

    made = backup(stored_chain.source.url, tables=("docs",), truncate_tables=(), mode="full")
    pruned = prune_root(restore.root, dry_run=False)

    assert pruned.removed == [*reversed(stamps)]
    assert len(made.names) == 3, "a file, a manifest and the log"
