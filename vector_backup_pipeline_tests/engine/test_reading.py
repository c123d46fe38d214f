"""A prune does not remove a set that is being read, and no reader starts on a removed one."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from vector_backup_pipeline.engine.catalog.claims import (
    claim_reading,
    remove_leftovers,
    stamps_being_read,
)
from vector_backup_pipeline.engine.catalog.stored_sets import read_verdicts
from vector_backup_pipeline.engine.errors import ResourceNotFound, StorageError
from vector_backup_pipeline.engine.file_names import manifest_name, tombstone_name, verdict_name
from vector_backup_pipeline.engine.restore.run import RestoreRun
from vector_backup_pipeline.engine.results import SetVerdict
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.verification.run import VerifyRun
from vector_backup_pipeline_tests.fix_prune import Prune
from vector_backup_pipeline_tests.fix_restore import RestoreMaker, no_target
from vector_backup_pipeline_tests.fix_sets import SetWriter
from vector_backup_pipeline_tests.fix_verify import verify_root, verify_run

OLD, NEW = "20260101_020000", "20260102_020000"


def _restore(sets: SetWriter) -> RestoreRun:
    return RestoreMaker(sets.path.parent).run(timestamp=OLD)


def _readers(sets: SetWriter) -> list[str]:
    return [name for name in sets.directory.names() if name.endswith(".reading")]


def test_a_restore_holds_its_set_from_when_it_was_found_to_its_end(
    two: SetWriter, prune: Prune
) -> None:
    restore = _restore(two)
    restore.find(no_target)

    assert prune().kept[OLD] == "a restore or a verification is reading it"

    restore.close()
    assert _readers(two) == []
    assert prune().removed == [OLD]


def test_a_restore_that_is_refused_leaves_no_marker(two: SetWriter) -> None:
    (two.path / f"langchain_pg_embedding_{OLD}.csv").write_bytes(b"changed")
    restore = _restore(two)
    with pytest.raises(Exception, match="langchain_pg_embedding"):
        restore.find(no_target)
    restore.close()
    assert _readers(two) == []


def _verified(run: VerifyRun, chosen_sets: Iterable[str]) -> list[SetVerdict]:
    verdicts = map(run.verify, chosen_sets)
    return [verdict for verdict in verdicts if verdict is not None]


def test_a_set_removed_before_its_turn_is_skipped_with_a_notice(
    two: SetWriter, prune: Prune
) -> None:
    run = verify_run(two.path.parent)
    chosen_sets = run.find()
    assert prune().removed == [OLD]

    (verdict,) = _verified(run, chosen_sets)
    result = run.close()

    assert (verdict.timestamp, verdict.passed) == (NEW, True)
    assert (result.verified, result.errors, run.error) == (True, [], None)
    assert f"The set {OLD} in {two.path} was removed" in result.notices[0]
    assert _readers(two) == []
    assert verdict_name(OLD) not in two.directory.names()


@pytest.mark.parametrize(
    ("unreadable", "damaged", "kept"),
    [
        (manifest_name(OLD), None, True),
        (f"langchain_pg_embedding_{OLD}.csv", None, True),
        (f"langchain_pg_embedding_{OLD}.csv", "langchain_pg_collection", False),
    ],
)
def test_a_file_that_can_not_be_read_is_an_error_of_the_run_and_no_verdict(
    two: SetWriter,
    monkeypatch: pytest.MonkeyPatch,
    unreadable: str,
    damaged: str | None,
    kept: bool,
) -> None:
    two.verdict(OLD)
    if damaged is not None:
        two.file(f"{damaged}_{OLD}.csv", b"damaged")
    run = verify_run(two.path.parent)
    chosen_sets = run.find()
    read = BackupDirectory.read

    def refuse(directory: BackupDirectory, name: str, *where: Any) -> Any:
        if name == unreadable:
            raise StorageError("Could not read the file: Connection timed out.")
        return read(directory, name, *where)

    monkeypatch.setattr(BackupDirectory, "read", refuse)
    unread, good = _verified(run, chosen_sets)
    result = run.close()

    assert (unread.passed, good.passed, result.verified) == (False, True, False)
    assert any("timed out" in error for error in unread.errors)
    assert "langchain_pg_embedding" not in unread.tables
    monkeypatch.undo()
    verified, _ = read_verdicts(two.directory, OLD)
    assert verified is not None
    assert verified.passed is kept


def test_a_verification_holds_each_set_while_it_reads_it(
    two: SetWriter, prune: Prune, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = BackupDirectory.read
    kept: list[str] = []

    def and_prune_meanwhile(
        directory: BackupDirectory, name: str, *where: int | None, **more: int | None
    ) -> Any:
        if name == f"langchain_pg_embedding_{OLD}.csv" and not kept:
            kept.append("prune")
            kept.append(prune().kept[OLD])
        return read(directory, name, *where, **more)  # type: ignore[arg-type]

    run = verify_run(two.path.parent)
    chosen_sets = run.find()
    monkeypatch.setattr(BackupDirectory, "read", and_prune_meanwhile)
    verdicts = _verified(run, chosen_sets)
    run.close()

    assert kept == ["prune", "a restore or a verification is reading it"]
    assert [verdict.passed for verdict in verdicts] == [True, True]
    assert _readers(two) == []


def test_a_run_that_reads_a_set_twice_holds_it_once(two: SetWriter) -> None:
    with claim_reading(two.directory, OLD, "restore", []):
        with claim_reading(two.directory, OLD, "restore", []):
            assert len(_readers(two)) == 1
        assert len(_readers(two)) == 1
    assert _readers(two) == []


def test_nobody_begins_to_read_a_set_that_is_being_removed(two: SetWriter) -> None:
    two.file(tombstone_name(OLD))
    reading = claim_reading(two.directory, OLD, "restore", [])
    with pytest.raises(ResourceNotFound, match="being removed by a prune"), reading:
        pass
    assert _readers(two) == []


def _restores(two: SetWriter) -> None:
    run = _restore(two)
    run.find(no_target)
    run.close()


@pytest.mark.parametrize(
    "next_run",
    [
        lambda two: remove_leftovers(two.directory),
        _restores,
        lambda two: verify_root(two.path.parent),
    ],
    ids=["backup", "restore", "verification"],
)
def test_the_next_run_removes_a_dead_readers_marker_and_keeps_a_live_ones(
    two: SetWriter, next_run: Callable[[SetWriter], Any]
) -> None:
    dead = f".vector_backup_{OLD}_0123abcd.reading"
    two.file(dead, b'{"host": "gone", "heartbeat": "2020-01-01T00:00:00+00:00"}')
    with claim_reading(two.directory, NEW, "restore", []):
        assert stamps_being_read(two.directory, two.directory.names()) == {NEW}
        next_run(two)
        assert dead not in two.directory.names()
        assert len(_readers(two)) == 1
