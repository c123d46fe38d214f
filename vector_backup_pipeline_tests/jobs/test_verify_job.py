"""The verification as Dagster runs it: green or red beside each table's backups."""

import tempfile
from pathlib import Path

import dagster as dg
import pytest

from vector_backup_pipeline.assets import RESTORE_DRILL, STORED_FILES, table_asset_key
from vector_backup_pipeline.definitions import defs
from vector_backup_pipeline_tests.fix_dagster import FinishedRun, JobRunner
from vector_backup_pipeline_tests.fix_postgres import Database

VERIFY = "vector_verify_job"
EMBEDDINGS = "langchain_pg_embedding"


@pytest.fixture
def backed_up(job: JobRunner) -> FinishedRun:
    """LangChain's tables, backed up by the job."""
    made = job()
    assert made.outcome.error_type is None
    return made


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def file_of(made: FinishedRun, table: str) -> Path:
    name: str = made.result["tables_backed_up"][table]["backup_file"]
    return made.directory / name


def checks(done: FinishedRun) -> dict[tuple[str, str], bool]:
    """(table, check) of each evaluation in the run's events, and whether it passed."""
    return {
        (data.asset_key.path[-1], data.check_name): data.passed
        for event in done.of_type("ASSET_CHECK_EVALUATION")
        for data in [event.asset_check_evaluation_data]
    }


def status(instance: dg.DagsterInstance, table: str, check: str) -> str:
    """What the UI shows of a check."""
    key = dg.AssetCheckKey(table_asset_key(table), check)
    found = instance.event_log_storage.get_latest_asset_check_execution_by_key([key])
    record = found[key]
    assert record is not None
    return str(record.status.value)


@pytest.mark.usefixtures("backed_up")
def test_sets_that_are_whole_are_green_and_the_verdict_is_kept(job: JobRunner) -> None:
    done = job({}, VERIFY)

    assert done.run.status is dg.DagsterRunStatus.SUCCESS
    assert done.result["verified"] is True
    (verdict,) = done.result["sets"]
    assert verdict["passed"] is True
    assert verdict["tables"][EMBEDDINGS]["rows"] == 58
    assert checks(done) == {
        ("langchain_pg_collection", STORED_FILES): True,
        (EMBEDDINGS, STORED_FILES): True,
    }
    assert status(job.instance, EMBEDDINGS, STORED_FILES) == "SUCCEEDED"
    assert len(list((job.root / "vector_bak").glob("vector_backup_*.verified.json"))) == 1
    assert "verify: SUCCESS" in (job.root / "vector_bak" / "vector_backup_log.txt").read_text()


def test_one_bit_turns_the_table_red_and_the_others_are_still_looked_at(
    job: JobRunner, backed_up: FinishedRun
) -> None:
    flip_a_bit(file_of(backed_up, EMBEDDINGS))

    done = job({}, VERIFY)

    assert done.run.status is dg.DagsterRunStatus.FAILURE
    assert done.outcome.error_type == "INTEGRITY_ERROR"
    assert done.result["verified"] is False
    assert checks(done) == {
        ("langchain_pg_collection", STORED_FILES): True,
        (EMBEDDINGS, STORED_FILES): False,
    }
    assert status(job.instance, EMBEDDINGS, STORED_FILES) == "FAILED"
    assert done.steps("STEP_SUCCESS")[-1] == "write_verify_log"


def test_a_set_that_fails_does_not_stop_the_others(job: JobRunner, backed_up: FinishedRun) -> None:
    job()
    flip_a_bit(file_of(backed_up, "langchain_pg_collection"))

    done = job({}, VERIFY)

    assert [each["passed"] for each in done.result["sets"]] == [False, True]
    assert checks(done)["langchain_pg_collection", STORED_FILES] is False


@pytest.mark.usefixtures("backed_up")
def test_a_drill_restores_into_a_server_of_its_own_and_leaves_nothing(
    job: JobRunner, langchain: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not pytest's own: it closes its folders to other users, the server's among them.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        monkeypatch.setattr("tempfile.tempdir", folder)
        done = job({"drill": True}, VERIFY)
        assert list(Path(folder).iterdir()) == []

    assert done.outcome.error_type is None, done.outcome.message
    (verdict,) = done.result["sets"]
    assert verdict["drill"]["passed"] is True
    restored = verdict["drill"]["restore_results"][EMBEDDINGS]
    assert (restored["rows_restored"], restored["digest_matches"]) == (58, True)
    assert checks(done)[EMBEDDINGS, RESTORE_DRILL] is True
    assert langchain.ask_one("SELECT count(*) FROM langchain_pg_embedding") == 58


@pytest.mark.usefixtures("backed_up")
def test_a_drill_on_a_given_server_drops_its_database(
    job: JobRunner, langchain: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCRATCH", langchain.url)

    done = job({"drill": True, "scratch_connection": {"env": "SCRATCH"}}, VERIFY)

    assert done.outcome.error_type is None, done.outcome.message
    assert langchain.ask("SELECT datname FROM pg_database WHERE datname ~ '^vector_drill'") == []


@pytest.mark.usefixtures("backed_up")
def test_a_database_that_a_dead_drill_left_is_dropped_by_the_next(
    job: JobRunner, langchain: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = "vector_drill_" + "0" * 32
    langchain.server.create_database(left)
    monkeypatch.setenv("SCRATCH", langchain.url)

    job({"drill": True, "scratch_connection": {"env": "SCRATCH"}}, VERIFY)

    assert langchain.ask("SELECT datname FROM pg_database WHERE datname ~ '^vector_drill'") == []


@pytest.mark.usefixtures("backed_up")
def test_a_role_that_may_not_make_databases_is_told_so(
    job: JobRunner, langchain: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCRATCH", langchain.create_role("may_not_drill"))

    done = job({"drill": True, "scratch_connection": {"env": "SCRATCH"}}, VERIFY)

    assert "make a database for the drill" in done.result["errors"][0]
    assert "PERMISSION_DENIED" in done.result["errors"][0]
    assert checks(done)[EMBEDDINGS, STORED_FILES] is True
    assert checks(done)[EMBEDDINGS, RESTORE_DRILL] is False


def test_nothing_to_verify_is_said(job: JobRunner) -> None:
    done = job({}, VERIFY)

    assert done.outcome.error_type is None
    assert done.result["sets"] == []
    assert "nothing to verify" in done.result["notices"][0]


def test_a_set_that_is_not_there_is_told(job: JobRunner) -> None:
    done = job({"timestamp": "20010101_000000"}, VERIFY)

    assert done.outcome.error_type == "RESOURCE_NOT_FOUND"


@pytest.mark.usefixtures("backed_up")
def test_the_checks_can_be_run_from_the_ui(job: JobRunner) -> None:
    keys = [dg.AssetCheckKey(table_asset_key(EMBEDDINGS), STORED_FILES)]
    selection = dg.AssetSelection.checks(*keys)
    by_hand = dg.define_asset_job("by_hand", selection=selection)
    all_of_them = dg.Definitions.merge(defs, dg.Definitions(jobs=[by_hand]))

    done = all_of_them.resolve_job_def("by_hand").execute_in_process(instance=job.instance)

    (evaluation,) = done.get_asset_check_evaluations()
    assert evaluation.asset_check_key == keys[0]
    assert evaluation.passed
