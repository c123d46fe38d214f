"""The restore as Dagster runs it: its config, its steps, its events."""

import dagster as dg
import pytest

from vector_backup_pipeline.operations import RESTORE
from vector_backup_pipeline_tests.faults.watching import count
from vector_backup_pipeline_tests.fix_dagster import JobRunner
from vector_backup_pipeline_tests.fix_postgres import Database

RESULT_KEYS = [
    "restore_performed",
    "outcome",
    "truncate_performed",
    "backup_info",
    "truncate_results",
    "restore_results",
    "not_recreated",
    "recall_at_10",
    "notices",
    "errors",
    "duration",
    "timestamp",
]
STEPS = [
    "find_backup_set",
    "prepare_target",
    "load_table[langchain_pg_collection]",
    "load_table[langchain_pg_embedding]",
    "build_indexes",
    "prove_restore",
    "write_restore_log",
]


@pytest.mark.usefixtures("backed_up")
def test_lost_rows_are_restored_and_the_result_says_so(job: JobRunner, langchain: Database) -> None:
    langchain.run("TRUNCATE langchain_pg_collection, langchain_pg_embedding")

    done = job({"timestamp": "latest", "progress_every": 10}, RESTORE.job_name)

    assert done.run.status is dg.DagsterRunStatus.SUCCESS
    assert done.steps("STEP_SUCCESS") == STEPS
    progress = done.metadata("ENGINE_EVENT", "load_table[langchain_pg_embedding]")
    assert progress["rows"] == 58
    assert {"percent", "rows_per_second", "megabytes_per_second"} <= progress.keys()
    assert list(done.result) == RESULT_KEYS
    assert done.result["restore_performed"] is True
    assert list(done.result["backup_info"]) == ["backup_path", "timestamp", "backup_date"]
    embedding = done.result["restore_results"]["langchain_pg_embedding"]
    assert list(embedding) == [
        "success",
        "source_file",
        "rows_restored",
        "file_size",
        "duration",
        "digest_matches",
    ]
    assert (embedding["rows_restored"], embedding["digest_matches"]) == (58, True)
    assert done.metadata("STEP_OUTPUT", "prove_restore")["langchain_pg_embedding: digest"] == (
        "equal"
    )
    assert count(langchain) == 58
    log = (job.root / "vector_bak" / "vector_backup_log.txt").read_text()
    assert "restore " in log and "content digest proven" in log


@pytest.mark.usefixtures("backed_up")
def test_a_failed_restore_fails_its_step_and_keeps_the_target(
    job: JobRunner, langchain: Database
) -> None:
    done = job({"timestamp": "latest"}, RESTORE.job_name)

    assert done.run.status is dg.DagsterRunStatus.FAILURE
    assert done.steps("STEP_FAILURE")[0] == "load_table[langchain_pg_collection]"
    assert "prove_restore" not in done.steps("STEP_START")
    assert done.outcome.error_type == "DATABASE_ERROR"
    assert "duplicate key" in str(done.outcome.message)
    assert done.outcome.can_retry is False
    assert done.result["restore_performed"] is False
    assert not any(e["success"] for e in done.result["restore_results"].values())
    assert "rolled back" in done.result["restore_results"]["langchain_pg_embedding"]["error"]
    assert [RESTORE.result_key in done.metadata("STEP_OUTPUT", "write_restore_log")] == [True]
    assert count(langchain) == 58


@pytest.mark.parametrize(
    ("timestamp", "error_type"),
    [("", "MISSING_REQUIRED_PARAMS"), ("20010101_000000", "RESOURCE_NOT_FOUND")],
)
def test_a_refused_restore_says_why(job: JobRunner, timestamp: str, error_type: str) -> None:
    done = job({"timestamp": timestamp}, RESTORE.job_name)

    assert done.run.status is dg.DagsterRunStatus.FAILURE
    assert done.outcome.error_type == error_type
    assert list(done.result) == RESULT_KEYS
    assert done.result["errors"] == [f"{error_type}: {done.outcome.message}"]


@pytest.mark.parametrize("last", ["find_backup_set", "build_indexes"])
@pytest.mark.usefixtures("backed_up")
def test_a_run_without_its_later_steps_restores_nothing_and_fails(
    job: JobRunner, langchain: Database, last: str
) -> None:
    langchain.run("TRUNCATE langchain_pg_collection, langchain_pg_embedding")
    steps = list(dict.fromkeys(step.partition("[")[0] for step in STEPS))
    chosen = [*steps[: steps.index(last) + 1], "write_restore_log"]

    done = job.some_steps(chosen, {"timestamp": "latest"}, RESTORE.job_name)

    assert done.run.status is dg.DagsterRunStatus.FAILURE
    assert done.outcome.error_type == "INVALID_PARAMS"
    assert done.result["restore_performed"] is False
    assert count(langchain) == 0


def test_with_a_key_manifests_are_signed_and_others_are_not_restored(
    job: JobRunner, langchain: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VECTOR_BACKUP_MANIFEST_KEY", "this key is ours")
    # Its manifest is written again with the truncate's outcome.
    made = job({"truncate_vector_tables": True})
    assert made.manifest["truncate"] == "done"
    stamp = made.manifest["timestamp"]

    monkeypatch.setenv("VECTOR_BACKUP_MANIFEST_KEY", "another key")
    for timestamp in ("latest", stamp):
        refused = job({"timestamp": timestamp}, RESTORE.job_name)
        assert refused.outcome.error_type == "INTEGRITY_ERROR"
        assert "does not match VECTOR_BACKUP_MANIFEST_KEY" in str(refused.outcome.message)
    assert count(langchain) == 0

    monkeypatch.setenv("VECTOR_BACKUP_MANIFEST_KEY", "this key is ours")
    done = job({"timestamp": stamp, "tables": ["langchain_pg_embedding"]}, RESTORE.job_name)
    assert done.outcome.error_type is None, done.outcome.message
    assert count(langchain) == 58
    for run in (made, refused, done):
        assert "key is ours" not in str(job.instance.all_logs(run.run.run_id))
