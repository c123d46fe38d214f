"""The restore as Dagster runs it: its config, its steps, what its events tell."""

from typing import Any

import dagster as dg
import pytest

from vector_backup_pipeline.definitions import defs
from vector_backup_pipeline.operations import RESTORE
from vector_backup_pipeline.settings import DATABASE_URL_VARIABLE
from vector_backup_pipeline_tests.fix_dagster import FinishedRun, JobRunner, finished
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


@pytest.fixture
def backed_up(job: JobRunner) -> FinishedRun:
    """LangChain's tables, backed up by the job."""
    made = job()
    assert made.outcome.error_type is None
    return made


def count(database: Database) -> int:
    return int(database.ask_one("SELECT count(*) FROM langchain_pg_embedding"))


@pytest.mark.usefixtures("backed_up")
def test_lost_rows_come_back_and_the_result_says_so(job: JobRunner, langchain: Database) -> None:
    langchain.run("TRUNCATE langchain_pg_collection, langchain_pg_embedding")

    done = job({"timestamp": "latest"}, RESTORE.job_name)

    assert done.run.status is dg.DagsterRunStatus.SUCCESS
    assert done.steps("STEP_SUCCESS") == STEPS
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


def test_another_database_is_named_by_a_variable(
    job: JobRunner, backed_up: FinishedRun, langchain: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    langchain.server.create_database("restored_elsewhere")
    try:
        elsewhere = Database(langchain.server, "restored_elsewhere")
        monkeypatch.setenv("THE_OTHER_DATABASE", elsewhere.url)
        config = {
            "timestamp": backed_up.manifest["timestamp"],
            "db_connection": {"env": "THE_OTHER_DATABASE"},
        }

        done = job(config, RESTORE.job_name)

        assert done.outcome.error_type is None
        assert done.run.run_config == config
        assert count(elsewhere) == 58
    finally:
        langchain.server.drop_database("restored_elsewhere")


@pytest.mark.usefixtures("backed_up")
def test_a_restore_that_fails_is_red_where_it_failed_and_tells_everything(
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
    ("config", "error_type"),
    [
        ({"timestamp": ""}, "MISSING_REQUIRED_PARAMS"),
        ({"timestamp": "yesterday"}, "INVALID_PARAMS"),
        ({"timestamp": "20010101_000000"}, "RESOURCE_NOT_FOUND"),
        ({"timestamp": "latest", "task_id": "../x"}, "INVALID_PARAMS"),
        ({"timestamp": "latest", "task_id": "nobody"}, "RESOURCE_NOT_FOUND"),
        ({"timestamp": "latest", "backup_path": "/etc"}, "INVALID_PARAMS"),
        ({"timestamp": "latest", "collections": []}, "INVALID_PARAMS"),
        (
            {"timestamp": "latest", "collections": ["a"], "truncate_before_restore": True},
            "INVALID_PARAMS",
        ),
        ({"timestamp": "latest", "rename": {"nothing": "other"}}, "INVALID_PARAMS"),
        ({"timestamp": "latest", "maintenance_work_mem": "lots"}, "INVALID_PARAMS"),
        ({"timestamp": "latest", "tables": ["documents"]}, "RESOURCE_NOT_FOUND"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("backed_up")
def test_a_restore_that_is_refused_tells_why(
    job: JobRunner, config: dict[str, Any], error_type: str
) -> None:
    done = job(config, RESTORE.job_name)

    assert done.run.status is dg.DagsterRunStatus.FAILURE
    assert done.outcome.error_type == error_type
    assert list(done.result) == RESULT_KEYS
    assert done.result["errors"] == [f"{error_type}: {done.outcome.message}"]


@pytest.mark.parametrize(
    ("config", "words"),
    [({}, "timestamp"), ({"timestamp": "latest", "on_conflict": "ignore"}, "on_conflict")],
)
def test_what_is_required_and_which_choices_there_are_dagster_knows(
    job: JobRunner, config: dict[str, Any], words: str
) -> None:
    with pytest.raises(dg.DagsterInvalidConfigError, match=words):
        job(config, RESTORE.job_name)


@pytest.mark.usefixtures("backed_up")
def test_progress_is_told_while_a_table_is_loaded(job: JobRunner, langchain: Database) -> None:
    langchain.run("TRUNCATE langchain_pg_collection, langchain_pg_embedding")

    done = job({"timestamp": "latest", "progress_every": 10}, RESTORE.job_name)

    told = done.metadata("ENGINE_EVENT", "load_table[langchain_pg_embedding]")
    assert told["rows"] == 58
    assert {"percent", "rows_per_second", "megabytes_per_second"} <= told.keys()


@pytest.mark.parametrize(
    "left_out", ["prepare_target", "load_table", "build_indexes", "prove_restore"]
)
@pytest.mark.usefixtures("backed_up")
def test_a_run_that_left_a_step_out_restores_nothing_and_is_no_success(
    job: JobRunner, langchain: Database, left_out: str
) -> None:
    langchain.run("TRUNCATE langchain_pg_collection, langchain_pg_embedding")
    names = [step.partition("[")[0] for step in STEPS]
    part = [name for name in dict.fromkeys(names) if name != left_out]
    needs_more = {"prepare_target": ["load_table", "build_indexes", "prove_restore"]}
    needs_more["load_table"] = ["build_indexes", "prove_restore"]
    needs_more["build_indexes"] = ["prove_restore"]
    part = [name for name in part if name not in needs_more.get(left_out, [])]

    subset = defs.resolve_job_def(RESTORE.job_name).get_subset(op_selection=part)
    run = subset.execute_in_process(
        run_config={"timestamp": "latest"}, instance=job.instance, raise_on_error=False
    )
    done = finished(job.instance, run.run_id)

    assert done.run.status is dg.DagsterRunStatus.FAILURE
    assert done.outcome.error_type == "INVALID_PARAMS"
    assert done.result["restore_performed"] is False
    assert count(langchain) == 0


@pytest.mark.usefixtures("backed_up")
def test_no_password_reaches_dagsters_storage(
    job: JobRunner, langchain: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    langchain.run("ALTER ROLE postgres PASSWORD 'open sesame 42'")
    wrong = langchain.url_as("postgres", "not the pass word")
    monkeypatch.setenv(DATABASE_URL_VARIABLE, wrong)

    done = job({"timestamp": "latest"}, RESTORE.job_name)

    assert done.outcome.error_type == "DATABASE_ERROR"
    stored = "".join(str(entry) for entry in job.instance.all_logs(done.run.run_id))
    assert "not the pass word" not in stored
    assert "not%20the%20pass%20word" not in stored


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
    assert count(langchain) == 0

    monkeypatch.setenv("VECTOR_BACKUP_MANIFEST_KEY", "this key is ours")
    done = job({"timestamp": stamp, "tables": ["langchain_pg_embedding"]}, RESTORE.job_name)
    assert done.outcome.error_type is None, done.outcome.message
    assert count(langchain) == 58
    for run in (made, refused, done):
        assert "key is ours" not in str(job.instance.all_logs(run.run.run_id))
