"""The verification as Dagster runs it: green or red beside each table's backups."""

import tempfile
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import dagster as dg
import pytest

from vector_backup_pipeline.assets import RESTORE_DRILL, STORED_FILES, table_asset_key
from vector_backup_pipeline.definitions import defs
from vector_backup_pipeline.engine.catalog.stored_sets import Verdict, read_verdicts
from vector_backup_pipeline.engine.postgres.recreation.extensions import ExtensionState
from vector_backup_pipeline_tests.fix_dagster import FinishedRun, JobRunner
from vector_backup_pipeline_tests.fix_postgres import Database
from vector_backup_pipeline_tests.fix_sets import SetWriter
from vector_backup_pipeline_tests.fix_terminal import Terminal

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
def test_a_role_that_only_reads_by_default_can_drill(
    job: JobRunner, langchain: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    langchain.run("CREATE ROLE reads_by_default SUPERUSER LOGIN")
    langchain.run("ALTER ROLE reads_by_default SET default_transaction_read_only = on")
    url = langchain.server.connection_string(langchain.name, user="reads_by_default")
    monkeypatch.setenv("SCRATCH", url)

    done = job({"drill": True, "scratch_connection": {"env": "SCRATCH"}}, VERIFY)

    langchain.run("DROP ROLE reads_by_default")
    assert done.outcome.error_type is None, done.outcome.message


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
    assert done.outcome.error_type == "PERMISSION_DENIED"
    assert checks(done)[EMBEDDINGS, STORED_FILES] is True
    assert (EMBEDDINGS, RESTORE_DRILL) not in checks(done)


@pytest.mark.usefixtures("backed_up")
@pytest.mark.parametrize("earlier", ["passed", "failed", None])
def test_a_restore_test_that_could_not_run_is_an_error_of_the_run_and_no_verdict(
    job: JobRunner, backed_up: FinishedRun, monkeypatch: pytest.MonkeyPatch, earlier: str | None
) -> None:
    kept = SetWriter(backed_up.directory)
    if earlier is not None:
        kept.verdict(stamp_of(backed_up), drill=earlier == "passed")
    monkeypatch.setenv("SCRATCH", "postgresql://nobody@127.0.0.1:1/none")

    done = job({"drill": True, "scratch_connection": {"env": "SCRATCH"}}, VERIFY)

    assert done.run.status is dg.DagsterRunStatus.FAILURE
    assert done.outcome.error_type == "SERVICE_UNAVAILABLE"
    (verdict,) = done.result["sets"]
    assert (verdict["files_passed"], verdict["passed"], verdict["drill"]) == (True, False, None)
    assert "The restore test of " in done.result["errors"][0]
    assert "could not run" in done.result["errors"][0]
    found = read_verdicts(kept.directory, stamp_of(backed_up))
    assert found.verified is not None
    assert found.verified.passed
    if earlier is None:
        assert found.drill is None
    else:
        assert found.drill == Verdict(
            earlier == "passed", datetime(2026, 1, 1, tzinfo=timezone.utc)
        )
        assert found.verified.at > found.drill.at


@pytest.mark.usefixtures("backed_up")
@pytest.mark.parametrize("lack", ["the extra", "a folder"])
def test_without_the_extra_or_space_a_restore_test_judges_nothing(
    job: JobRunner, backed_up: FinishedRun, monkeypatch: pytest.MonkeyPatch, lack: str
) -> None:
    if lack == "the extra":
        monkeypatch.setattr("vector_backup_pipeline.drill_server._NEEDED", "not_installed")
    else:
        monkeypatch.setattr("tempfile.tempdir", "/nowhere")

    done = job({"drill": True}, VERIFY)

    assert done.run.status is dg.DagsterRunStatus.FAILURE
    found = read_verdicts(SetWriter(backed_up.directory).directory, stamp_of(backed_up))
    assert (found.verified is not None and found.verified.passed, found.drill) == (True, None)


@pytest.mark.usefixtures("backed_up")
def test_a_server_without_the_extension_judges_no_set(
    job: JobRunner, langchain: Database, backed_up: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCRATCH", langchain.url)
    monkeypatch.setattr(
        "vector_backup_pipeline.engine.postgres.recreation.recreation.extension_states",
        lambda _, names: {name: ExtensionState(None, None, None) for name in names},
    )

    done = job({"drill": True, "scratch_connection": {"env": "SCRATCH"}}, VERIFY)

    assert done.outcome.error_type == "DATABASE_ERROR"
    found = read_verdicts(SetWriter(backed_up.directory).directory, stamp_of(backed_up))
    assert found.drill is None


@pytest.fixture
def with_a_policy(job: JobRunner, langchain: Database) -> Iterator[str]:
    """A backup of tables with a policy for a role, which only its own server has."""
    role = "only at home"
    langchain.run(f'CREATE ROLE "{role}"')
    langchain.run(f'CREATE POLICY ours ON {EMBEDDINGS} TO "{role}" USING (true)')
    made = job()
    assert made.outcome.error_type is None, made.outcome.message
    langchain.run(f"DROP POLICY ours ON {EMBEDDINGS}")
    langchain.run(f'DROP ROLE "{role}"')
    yield role
    langchain.run(f'DROP ROLE IF EXISTS "{role}"')


@pytest.mark.usefixtures("with_a_policy")
def test_a_drills_own_server_gets_the_roles_that_policies_are_for(job: JobRunner) -> None:
    done = job({"drill": True}, VERIFY)

    assert done.outcome.error_type is None, done.outcome.message
    assert done.result["sets"][0]["drill"]["passed"] is True


def test_a_given_server_gets_no_role_and_the_missing_one_is_named(
    job: JobRunner, langchain: Database, with_a_policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCRATCH", langchain.url)

    done = job({"drill": True, "scratch_connection": {"env": "SCRATCH"}}, VERIFY)

    assert done.outcome.error_type == "DATABASE_ERROR"
    assert with_a_policy in done.result["errors"][0]
    assert langchain.ask("SELECT 1 FROM pg_roles WHERE rolname = %s", [with_a_policy]) == []


@pytest.fixture
def newest_is_damaged(job: JobRunner, backed_up: FinishedRun) -> str:
    """Two sets, the newer one's manifest damaged; its stamp."""
    made = job()
    (newest,) = set(made.directory.glob("vector_backup_*.json")) - set(
        backed_up.directory.glob(f"vector_backup_{stamp_of(backed_up)}.json")
    )
    flip_a_bit(newest)
    return stamp_of(made)


def stamp_of(made: FinishedRun) -> str:
    return file_of(made, EMBEDDINGS).stem.removeprefix(f"{EMBEDDINGS}_")


@pytest.mark.parametrize("timestamp", [None, "latest"])
def test_a_set_that_can_not_be_read_turns_every_table_red(
    job: JobRunner, newest_is_damaged: str, timestamp: str | None
) -> None:
    done = job({} if timestamp is None else {"timestamp": timestamp}, VERIFY)

    assert done.outcome.error_type == "INTEGRITY_ERROR"
    assert [each["passed"] for each in done.result["sets"]] == [True, False]
    assert checks(done) == {
        ("langchain_pg_collection", STORED_FILES): False,
        (EMBEDDINGS, STORED_FILES): False,
    }
    evaluation = done.of_type("ASSET_CHECK_EVALUATION")[0].asset_check_evaluation_data
    told = str(evaluation.metadata["failures"].value)
    assert f"{newest_is_damaged}: the set can't be read" in told


@pytest.mark.usefixtures("backed_up")
def test_latest_leaves_damaged_sets_alone_that_a_whole_one_has_followed(
    job: JobRunner, backed_up: FinishedRun
) -> None:
    job()
    flip_a_bit(backed_up.directory / f"vector_backup_{stamp_of(backed_up)}.json")

    done = job({"timestamp": "latest"}, VERIFY)

    assert done.outcome.error_type is None
    assert len(done.result["sets"]) == 1


def test_a_root_that_is_not_there_is_an_error(
    job: JobRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VECTOR_BACKUP_ROOT", f"{job.root}_mistyped")

    done = job({}, VERIFY)

    assert done.outcome.error_type == "RESOURCE_NOT_FOUND"
    assert f"{job.root}_mistyped" in str(done.outcome.message)
    assert "VECTOR_BACKUP_ROOT" in str(done.outcome.message)


@pytest.mark.usefixtures("root")
def test_a_malformed_timestamp_is_a_bad_call(terminal: Terminal) -> None:
    done = terminal("verify", "--timestamp", "garbage", "--json")

    assert done.code == 2
    assert done.document["error_type"] == "INVALID_PARAMS"
    assert "'garbage'" in done.document["message"]


def test_nothing_to_verify_is_said(job: JobRunner) -> None:
    done = job({}, VERIFY)

    assert done.outcome.error_type is None
    assert done.result["sets"] == []
    assert "nothing to verify" in done.result["notices"][0]


def test_a_set_that_is_not_there_is_told(job: JobRunner) -> None:
    done = job({"timestamp": "20010101_000000"}, VERIFY)

    assert done.outcome.error_type == "RESOURCE_NOT_FOUND"


def run_from_the_ui(job: JobRunner, key: dg.AssetCheckKey) -> dg.AssetCheckEvaluation:
    selection = dg.AssetSelection.checks(key)
    by_hand = dg.define_asset_job("by_hand", selection=selection)
    all_of_them = dg.Definitions.merge(defs, dg.Definitions(jobs=[by_hand]))
    done = all_of_them.resolve_job_def("by_hand").execute_in_process(instance=job.instance)
    (evaluation,) = done.get_asset_check_evaluations()
    assert evaluation.asset_check_key == key
    return evaluation


@pytest.mark.usefixtures("backed_up")
def test_the_checks_can_be_run_from_the_ui(job: JobRunner) -> None:
    assert run_from_the_ui(job, dg.AssetCheckKey(table_asset_key(EMBEDDINGS), STORED_FILES)).passed


@pytest.mark.usefixtures("newest_is_damaged")
def test_the_check_from_the_ui_does_not_pass_over_a_damaged_set(job: JobRunner) -> None:
    key = dg.AssetCheckKey(table_asset_key(EMBEDDINGS), STORED_FILES)

    assert not run_from_the_ui(job, key).passed


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
