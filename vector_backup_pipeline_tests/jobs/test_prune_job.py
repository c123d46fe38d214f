"""Pruning as Dagster and the terminal run it, and after a backup."""

from pathlib import Path

import dagster as dg
import pytest

from vector_backup_pipeline.engine.errors import StorageError
from vector_backup_pipeline.engine.file_names import PRUNE_MARKER, manifest_name
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.operations import PRUNE
from vector_backup_pipeline_tests.fix_dagster import FinishedRun, JobRunner
from vector_backup_pipeline_tests.fix_sets import SetWriter
from vector_backup_pipeline_tests.fix_terminal import Terminal

FIRST, SECOND, THIRD = "20260101_020000", "20260102_020000", "20260103_020000"


@pytest.fixture
def sets(root: Path) -> SetWriter:
    """Three good sets in the root's own directory."""
    writer = SetWriter(root / "vector_bak")
    for stamp in (FIRST, SECOND, THIRD):
        writer.write(stamp)
    return writer


@pytest.fixture
def plain_job(instance: dg.DagsterInstance, root: Path) -> JobRunner:
    """Jobs that need no database."""
    return JobRunner(instance, root)


def _exists(sets: SetWriter, stamp: str) -> bool:
    return (sets.path / manifest_name(stamp)).exists()


def test_the_job_removes_by_the_rules_of_its_config(plain_job: JobRunner, sets: SetWriter) -> None:
    task = SetWriter(sets.path.parent / "task_1" / "vector_bak")
    task.write(FIRST)

    done = plain_job({"keep_last": 1}, PRUNE.job_name)

    assert done.run.status is dg.DagsterRunStatus.SUCCESS
    of_root, of_task = done.result["locations"]
    assert [removed["timestamp"] for removed in of_root["removed"]] == [FIRST, SECOND]
    assert of_root["kept"] == [
        {
            "timestamp": THIRD,
            "source_database": "d",
            "reasons": ["one of the last 1", "newest good set"],
        }
    ]
    assert (of_task["task_id"], len(of_task["kept"]), of_task["removed"]) == ("task_1", 1, [])
    assert done.result["pruned"] is True
    assert done.result["bytes_freed"] == of_root["bytes_freed"] > 0
    assert done.steps("STEP_SUCCESS")[-1] == "write_prune_log"
    assert not _exists(sets, FIRST)


def test_a_failed_location_fails_the_run(plain_job: JobRunner, sets: SetWriter) -> None:
    other = sets.directory.claim(PRUNE_MARKER, "r")
    assert other is not None

    done = plain_job({"keep_last": 1}, PRUNE.job_name)
    other.release()

    assert done.run.status is dg.DagsterRunStatus.FAILURE
    assert (done.outcome.error_type, done.outcome.can_retry) == ("LOCK_TIMEOUT", True)


def test_the_command_removes_nothing_without_yes(terminal: Terminal, sets: SetWriter) -> None:
    called = terminal("prune", "--keep-last", "1")

    assert called.code == 0
    assert f"keep      {THIRD}  d  one of the last 1; newest good set" in called.out
    assert f"remove    {FIRST}  d  no rule keeps it (3 files, " in called.out
    assert "To keep: 1, to remove: 2, to free: " in called.out
    assert "--yes" in called.out
    assert _exists(sets, FIRST)

    done = terminal("prune", "--keep-last", "1", "--yes")

    assert done.code == 0
    assert f"removed   {FIRST}  d  no rule keeps it" in done.out
    assert not _exists(sets, FIRST)


@pytest.fixture
def pruning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings for a prune after each backup."""
    monkeypatch.setenv("VECTOR_BACKUP_PRUNE_AFTER_BACKUP", "true")
    monkeypatch.setenv("VECTOR_BACKUP_KEEP_LAST", "2")


def _log_metadata(done: FinishedRun) -> dict[str, object]:
    return done.metadata("STEP_OUTPUT", "write_backup_log")


def test_a_backup_prunes_its_own_location_if_the_settings_say_so(
    job: JobRunner, sets: SetWriter, pruning: None
) -> None:
    task = SetWriter(sets.path.parent / "task_1" / "vector_bak")
    for stamp in (FIRST, SECOND, THIRD):
        task.write(stamp)

    done = job()

    assert done.outcome.error_type is None
    assert done.result["backup_performed"] is True
    metadata = _log_metadata(done)[PRUNE.result_key]
    assert isinstance(metadata, dict)
    (location,) = metadata["locations"]
    # The new set is of another database, and counts only for that one.
    assert [backup["timestamp"] for backup in location["removed"]] == [FIRST]
    assert [_exists(sets, stamp) for stamp in (FIRST, SECOND, THIRD)] == [False, True, True]
    assert _exists(task, FIRST)


def test_a_prune_that_fails_is_a_warning_of_a_backup_that_succeeded(
    job: JobRunner, sets: SetWriter, pruning: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete = BackupDirectory.delete

    def failing(directory: BackupDirectory, name: str) -> None:
        if name == manifest_name(FIRST):
            raise StorageError("no luck")
        delete(directory, name)

    monkeypatch.setattr(BackupDirectory, "delete", failing)
    done = job()

    assert done.run.status is dg.DagsterRunStatus.SUCCESS
    assert done.outcome.error_type is None
    assert _log_metadata(done)["prune_error"] == "STORAGE_ERROR: no luck"
    assert _exists(sets, FIRST)
    warnings = [
        entry.user_message for entry in job.instance.all_logs(done.run.run_id) if entry.level == 30
    ]
    assert [text for text in warnings if "the prune after it failed" in text]


def test_a_backup_that_failed_prunes_nothing(
    job: JobRunner, sets: SetWriter, pruning: None
) -> None:
    done = job({"tables": ["langchain_pg_collection", "gone"]})
    assert done.run.status is dg.DagsterRunStatus.FAILURE
    assert PRUNE.result_key not in _log_metadata(done)
    assert _exists(sets, FIRST)


def test_without_the_setting_a_backup_prunes_nothing(
    job: JobRunner, sets: SetWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VECTOR_BACKUP_KEEP_LAST", "1")
    job()
    assert _exists(sets, FIRST)
