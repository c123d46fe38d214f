"""The verification as Dagster runs it: its steps, its result, the asset checks."""

import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from vector_backup_pipeline.assets import RESTORE_DRILL, STORED_FILES, table_asset_key
from vector_backup_pipeline.definitions import defs
from vector_backup_pipeline.engine.catalog.stored_sets import Verdict, read_verdicts
from vector_backup_pipeline.engine.postgres.recreation.target_objects import ExtensionState
from vector_backup_pipeline_tests.fix_dagster import FinishedRun, JobRunner
from vector_backup_pipeline_tests.fix_postgres import Database, create_database, user_url
from vector_backup_pipeline_tests.fix_sets import SetWriter

VERIFY = "vector_verify_job"
EMBEDDINGS = "langchain_pg_embedding"


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
    """A check as the UI shows it."""
    key = dg.AssetCheckKey(table_asset_key(table), check)
    executions = instance.event_log_storage.get_latest_asset_check_execution_by_key([key])
    record = executions[key]
    assert record is not None
    return str(record.status.value)


@pytest.mark.usefixtures("backed_up")
def test_good_sets_pass_their_checks_and_the_verdict_is_stored(job: JobRunner) -> None:
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


def test_one_changed_bit_fails_its_table_and_no_other_set_or_table(
    job: JobRunner, backed_up: FinishedRun
) -> None:
    job()
    flip_a_bit(file_of(backed_up, EMBEDDINGS))

    done = job({}, VERIFY)

    assert [verdict["passed"] for verdict in done.result["sets"]] == [False, True]
    assert done.run.status is dg.DagsterRunStatus.FAILURE
    assert done.outcome.error_type == "INTEGRITY_ERROR"
    assert done.result["verified"] is False
    assert checks(done) == {
        ("langchain_pg_collection", STORED_FILES): True,
        (EMBEDDINGS, STORED_FILES): False,
    }
    assert status(job.instance, EMBEDDINGS, STORED_FILES) == "FAILED"
    assert done.steps("STEP_SUCCESS")[-1] == "write_verify_log"


@pytest.mark.usefixtures("backed_up")
def test_a_restore_test_uses_a_server_of_its_own_and_leaves_nothing(
    job: JobRunner, langchain: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Other users, such as the server's, cannot enter pytest's own directory.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        monkeypatch.setattr("tempfile.tempdir", folder)
        done = job({"drill": True}, VERIFY)
        assert list(Path(folder).iterdir()) == []

    assert done.outcome.error_type is None, done.outcome.message
    (verdict,) = done.result["sets"]
    assert verdict["drill"]["passed"] is True
    overview = done.metadata("STEP_OUTPUT", "write_verify_log")["overview"]
    assert overview.splitlines()[2].endswith(" | True | True |")
    restored = verdict["drill"]["restore_results"][EMBEDDINGS]
    assert (restored["rows_restored"], restored["digest_matches"]) == (58, True)
    assert checks(done)[EMBEDDINGS, RESTORE_DRILL] is True
    assert langchain.ask_one("SELECT count(*) FROM langchain_pg_embedding") == 58


@pytest.mark.usefixtures("backed_up")
def test_a_restore_test_on_a_given_server_drops_its_database_and_those_of_dead_ones(
    job: JobRunner, langchain: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_database(langchain.server, "vector_drill_" + "0" * 32)
    langchain.run("CREATE ROLE reads_by_default SUPERUSER LOGIN")
    langchain.run("ALTER ROLE reads_by_default SET default_transaction_read_only = on")
    url = user_url(langchain.server, langchain.name, "reads_by_default")
    monkeypatch.setenv("SCRATCH", url)

    done = job({"drill": True, "scratch_connection": {"env": "SCRATCH"}}, VERIFY)

    langchain.run("DROP ROLE reads_by_default")
    assert done.outcome.error_type is None, done.outcome.message
    assert langchain.ask("SELECT datname FROM pg_database WHERE datname ~ '^vector_drill'") == []


@pytest.mark.usefixtures("backed_up")
def test_a_role_without_createdb_gets_a_clear_error(
    job: JobRunner, langchain: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCRATCH", langchain.create_role("may_not_drill"))

    done = job({"drill": True, "scratch_connection": {"env": "SCRATCH"}}, VERIFY)

    assert "create a database for the restore test" in done.result["errors"][0]
    assert "PERMISSION_DENIED" in done.result["errors"][0]
    assert done.outcome.error_type == "PERMISSION_DENIED"
    assert checks(done)[EMBEDDINGS, STORED_FILES] is True
    assert (EMBEDDINGS, RESTORE_DRILL) not in checks(done)


@pytest.mark.parametrize("lack", ["a server", "the extra", "the extension"])
def test_a_restore_test_that_could_not_run_is_an_error_of_the_run_and_no_verdict(
    job: JobRunner,
    langchain: Database,
    backed_up: FinishedRun,
    monkeypatch: pytest.MonkeyPatch,
    lack: str,
) -> None:
    kept = SetWriter(backed_up.directory)
    kept.verdict(stamp_of(backed_up), drill=True)
    config: dict[str, Any] = {"drill": True}
    if lack == "the extra":
        monkeypatch.setattr("vector_backup_pipeline.drill_server._PACKAGE", "not_installed")
    else:
        server = langchain.url if lack == "the extension" else "postgresql://127.0.0.1:1/none"
        monkeypatch.setenv("SCRATCH", server)
        config["scratch_connection"] = {"env": "SCRATCH"}
        monkeypatch.setattr(
            "vector_backup_pipeline.engine.postgres.recreation.target_objects.extension_states",
            lambda _, names: {name: ExtensionState(None, None, None) for name in names},
        )

    done = job(config, VERIFY)

    assert done.run.status is dg.DagsterRunStatus.FAILURE
    if lack == "a server":
        assert done.outcome.error_type == "SERVICE_UNAVAILABLE"
    (verdict,) = done.result["sets"]
    assert (verdict["files_passed"], verdict["passed"], verdict["drill"]) == (True, False, None)
    assert "The restore test of " in done.result["errors"][0]
    assert "could not run" in done.result["errors"][0]
    verified, drill = read_verdicts(kept.directory, stamp_of(backed_up))
    assert verified is not None
    assert verified.passed
    assert drill == Verdict(True, datetime(2026, 1, 1, tzinfo=timezone.utc))
    assert verified.at > drill.at


def stamp_of(made: FinishedRun) -> str:
    return file_of(made, EMBEDDINGS).stem.removeprefix(f"{EMBEDDINGS}_")


def test_an_unreadable_set_fails_the_checks_of_every_table(
    job: JobRunner, backed_up: FinishedRun
) -> None:
    newest = stamp_of(job())
    flip_a_bit(backed_up.directory / f"vector_backup_{newest}.json")

    done = job({"timestamp": "latest"}, VERIFY)

    assert done.outcome.error_type == "INTEGRITY_ERROR"
    assert [verdict["passed"] for verdict in done.result["sets"]] == [True, False]
    assert checks(done) == {
        ("langchain_pg_collection", STORED_FILES): False,
        (EMBEDDINGS, STORED_FILES): False,
    }
    evaluation = done.of_type("ASSET_CHECK_EVALUATION")[0].asset_check_evaluation_data
    failures = str(evaluation.metadata["failures"].value)
    assert f"{newest}: the set cannot be read" in failures


def test_nothing_to_verify_is_a_notice(job: JobRunner) -> None:
    done = job({}, VERIFY)

    assert done.outcome.error_type is None
    assert done.result["sets"] == []
    assert "nothing to verify" in done.result["notices"][0]
    assert job({"timestamp": "20010101_000000"}, VERIFY).outcome.error_type == "RESOURCE_NOT_FOUND"


def test_a_check_run_from_the_ui_reads_the_newest_set(
    job: JobRunner, backed_up: FinishedRun
) -> None:
    key = dg.AssetCheckKey(table_asset_key(EMBEDDINGS), STORED_FILES)
    by_hand = dg.define_asset_job("by_hand", selection=dg.AssetSelection.checks(key))
    both = dg.Definitions.merge(defs, dg.Definitions(jobs=[by_hand]))

    def passes() -> bool:
        done = both.resolve_job_def("by_hand").execute_in_process(instance=job.instance)
        (evaluation,) = done.get_asset_check_evaluations()
        assert evaluation.asset_check_key == key
        return evaluation.passed

    assert passes()
    flip_a_bit(backed_up.directory / f"vector_backup_{stamp_of(backed_up)}.json")
    assert not passes()


def test_an_adopted_set_is_verified_and_no_restore_test_is_made(job: JobRunner) -> None:
    sets = SetWriter(job.root / "vector_bak")
    sets.older("20240102_030405", line_end=b"\n")
    sets.adopt()

    done = job({"drill": True}, VERIFY)

    assert done.outcome.error_type is None, done.outcome.message
    (verdict,) = done.result["sets"]
    assert (verdict["passed"], verdict["drill"]) == (True, None)
    assert verdict["tables"][EMBEDDINGS]["has_digest"] is False
    assert "no restore test was made" in done.result["notices"][0]
