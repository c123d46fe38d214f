"""A canceled prune reports what it removed, and hides no complete set."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vector_backup_pipeline.engine.errors import RunCancelled
from vector_backup_pipeline.engine.file_names import manifest_name, tombstone_name
from vector_backup_pipeline.engine.retention.run import PruneRun
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.parameters.prune import PruneParameters
from vector_backup_pipeline_tests.faults.watching import interrupted
from vector_backup_pipeline_tests.fix_backup import TIMESTAMPS
from vector_backup_pipeline_tests.fix_dagster import CHECKOUT
from vector_backup_pipeline_tests.fix_process import child, hears
from vector_backup_pipeline_tests.fix_prune import LAST_1, prune_root
from vector_backup_pipeline_tests.fix_sets import SetWriter, find_set, read_sets

FIRST, SECOND, THIRD = "20260101_020000", "20260102_020000", "20260103_020000"

# Before it removes the first file, it prints a line and waits for one.
_COMMAND = """
import sys
from vector_backup_pipeline.cli import main
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
delete = BackupDirectory.delete
def waiting(directory, name):
    BackupDirectory.delete = delete
    print("reached", flush=True)
    sys.stdin.readline()
    delete(directory, name)
BackupDirectory.delete = waiting
main()
"""


def _interrupted_prune(root: Path) -> PruneRun:
    root_directory = BackupRoot(str(root), "vector_bak")
    run = PruneRun(PruneParameters(), LAST_1, root_directory, TIMESTAMPS, run_id="prune")
    (location,) = run.find()
    with interrupted():
        run.prune(location.key)
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
    assert find_set(sets.directory, TIMESTAMPS, FIRST, None).complete


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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_command_ends_it_in_order(root: Path, number: signal.Signals) -> None:
    sets = SetWriter(root / "vector_bak")
    for stamp in (FIRST, SECOND, THIRD):
        sets.write(stamp)
    before = set(sets.directory.names())
    with child(
        [sys.executable, "-c", _COMMAND, "prune", "--keep-last", "1", "--yes", "--json"],
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert hears(process) == "reached"
        process.send_signal(number)
        out, err = process.communicate("\n", timeout=30)

    assert process.returncode == 130
    assert "Traceback" not in err
    output = json.loads(out)
    assert output["error_type"] == "RUN_CANCELED"
    assert output["can_retry"] is True
    (location,) = output["data"]["locations"]
    assert [backup_set["timestamp"] for backup_set in location["kept"]] == [THIRD, SECOND]
    (removed,) = location["removed"]
    after = set(sets.directory.names())
    assert removed["files"] == [manifest_name(FIRST)] == sorted(before - after)
    assert after - before == {tombstone_name(FIRST), "vector_backup_log.txt"}
    assert (
        f"CANCELED by {number.name} to the command"
        in (sets.path / "vector_backup_log.txt").read_text()
    )
    assert [backup_set.stamp for backup_set in read_sets(sets.directory, TIMESTAMPS)] == [
        SECOND,
        THIRD,
    ]
    assert prune_root(root).removed == [SECOND]
    assert {backup_set.stamp for backup_set in read_sets(sets.directory, TIMESTAMPS)} == {THIRD}
