"""A canceled prune reports what it removed, and hides no complete set."""

import signal
from pathlib import Path

import pytest

from vector_backup_pipeline.engine.errors import RunCancelled
from vector_backup_pipeline.engine.file_names import manifest_name, tombstone_name
from vector_backup_pipeline.engine.retention.run import PruneRun
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.parameters.prune import PruneParameters
from vector_backup_pipeline_tests.faults.watching import interrupted
from vector_backup_pipeline_tests.fix_prune import LAST_1, prune_root
from vector_backup_pipeline_tests.fix_sets import SetWriter, find_set

FIRST, SECOND = "20260101_020000", "20260102_020000"


def _interrupted_prune(root: Path) -> PruneRun:
    root_directory = BackupRoot(str(root), "vector_bak")
    run = PruneRun(PruneParameters(), LAST_1, root_directory, run_id="prune")
    (key,) = run.find()
    with interrupted():
        run.prune(key)
    return run


def test_a_set_with_all_its_files_is_a_set_again_after_an_interrupt(
    tmp_path: Path, sets: SetWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets.write(FIRST)
    sets.write(SECOND)
    replace = BackupDirectory.replace

    def interrupting(directory: BackupDirectory, name: str, data: bytes) -> None:
        replace(directory, name, data)
        assert tombstone_name(FIRST) in directory.names()
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(BackupDirectory, "replace", interrupting)
    (location,) = _interrupted_prune(tmp_path).close().locations

    assert [backup_set.timestamp for backup_set in location.kept] == [SECOND, FIRST]
    assert location.removed == []
    assert tombstone_name(FIRST) not in sets.directory.names()
    assert find_set(sets.directory, FIRST).manifest.complete


def test_files_removed_during_the_interrupt_are_reported(
    tmp_path: Path, sets: SetWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets.write(FIRST)
    sets.write(SECOND)
    delete = BackupDirectory.delete

    def interrupting(directory: BackupDirectory, name: str) -> None:
        delete(directory, name)
        if name == manifest_name(FIRST):
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(BackupDirectory, "delete", interrupting)
    run = _interrupted_prune(tmp_path)
    monkeypatch.undo()
    (location,) = run.close().locations

    assert isinstance(run.error, RunCancelled)
    assert [backup_set.files for backup_set in location.removed] == [[manifest_name(FIRST)]]
    assert [backup_set.timestamp for backup_set in location.kept] == [SECOND]
    assert tombstone_name(FIRST) in sets.directory.names()
    assert prune_root(tmp_path).error is None
    assert FIRST not in " ".join(set(sets.directory.names()))
