"""The backup as Dagster runs it: its config, its steps, its events."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from vector_backup_pipeline.definitions import defs
from vector_backup_pipeline.jobs.backup import vector_backup_job
from vector_backup_pipeline.operations import BACKUP
from vector_backup_pipeline.settings import DATABASE_URL_VARIABLE, PREFIX
from vector_backup_pipeline_tests.faults.watching import wait_until_nothing_is_open
from vector_backup_pipeline_tests.fix_backup import LANGCHAIN
from vector_backup_pipeline_tests.fix_dagster import RESULT_KEYS, FinishedRun, JobRunner, finished
from vector_backup_pipeline_tests.fix_postgres import Database


def test_without_config_the_tables_of_the_settings_are_backed_up(
    job: JobRunner, langchain: Database
) -> None:
    done = job({})

    assert done.run.status is dg.DagsterRunStatus.SUCCESS
    assert done.run.run_config == {}
    assert list(done.result) == RESULT_KEYS
    assert done.result["backup_performed"] is True
    assert done.result["truncate_performed"] is False
    assert done.result["backup_directory"] == str(job.root / "vector_bak")
    assert done.result["truncate_results"] == {}
    assert done.result["errors"] == []
    embedding = done.result["tables_backed_up"]["langchain_pg_embedding"]
    file = done.directory / embedding["backup_file"]
    assert list(embedding) == ["success", "row_count", "file_size", "backup_file", "duration"]
    assert embedding["success"] is True
    assert embedding["row_count"] == 58
    assert embedding["file_size"] == f"{file.stat().st_size / 1024:.1f} KB"
    assert 0 < embedding["duration"] <= done.result["duration"]
    assert "SUCCESS" in done.log
    assert done.manifest["complete"] is True
    wait_until_nothing_is_open(langchain)
    assert done.steps("STEP_SUCCESS")[-1] == "write_backup_log"
    assert BACKUP.result_key in done.metadata("STEP_OUTPUT", "write_backup_log")
    assert sum(_has_result(event) for event in done.events) == 1
    resolved = done.metadata("STEP_OUTPUT", "resolve_backup_directory")
    assert resolved["directory"] == str(done.directory)
    assert resolved["timestamp"] == done.manifest["timestamp"]
    assert done.metadata("STEP_OUTPUT", "pin_snapshot").keys() >= {"table", "size", "step"}
    exported = done.metadata("STEP_OUTPUT", "export_table[langchain_pg_embedding]")
    assert (exported["rows"], exported["file"]) == (58, file.name)
    made = _materializations(done)
    assert [m.asset_key.path for m in made] == [["vector_backup", table] for table in LANGCHAIN]
    metadata: dict[str, Any] = {key: value.value for key, value in made[1].metadata.items()}
    assert metadata.keys() >= {"rows", "seconds", "rows/s", "MB/s", "path", "bytes in database"}
    assert (metadata["dagster/row_count"], metadata["bytes"]) == (58, file.stat().st_size)
    assert (metadata["dagster/uri"], metadata["mode"]) == (file.as_uri(), "full")
    assert metadata["digest"] == done.manifest["tables"][1]["file"]["digest"]["value"]
    columns = {column.name: column for column in metadata["dagster/column_schema"].columns}
    assert columns["id"].constraints.other == ["primary key"]
    assert columns["embedding"].type.startswith("public.vector")
    assert {m.partition for m in made} == {"vector_bak"}
    overview = done.metadata("STEP_OUTPUT", "write_backup_log")["overview"]
    assert f"| langchain_pg_embedding | True | 58 | {embedding['file_size']} |" in overview


def test_the_setting_of_the_mode_makes_incremental_backups(
    job: JobRunner, langchain: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PREFIX + "MODE", "auto")
    base = job({})
    stamp = base.manifest["timestamp"]
    langchain.run("DELETE FROM langchain_pg_embedding WHERE id IN ('doc-1', 'doc-2')")
    langchain.run("UPDATE langchain_pg_embedding SET document = '' WHERE id = 'doc-3'")

    done = job({})

    embedding = done.result["tables_backed_up"]["langchain_pg_embedding"]
    assert list(embedding)[-5:] == [
        "mode",
        "builds_on",
        "rows_exported",
        "rows_removed",
        "reason",
    ]
    assert list(embedding.values())[-5:] == ["incremental", stamp, 1, 2, None]
    assert embedding["row_count"] == 56
    assert f", incremental: 1 changed, 2 removed since {stamp}\n" in done.log
    metadata = {key: value.value for key, value in _materializations(done)[1].metadata.items()}
    keys = done.directory / embedding["backup_file"].replace(".csv", ".keys.parquet")
    numbers = {
        "rows": 56,
        "mode": "incremental",
        "builds_on": stamp,
        "rows exported": 1,
        "rows removed": 2,
        "key file bytes": keys.stat().st_size,
    }
    assert metadata | numbers == metadata
    assert done.metadata("STEP_OUTPUT", "export_table[langchain_pg_embedding]")["rows removed"] == 2
    assert _materializations(base)[1].metadata["mode"].value == "full"
    assert ", full: There is no complete, undamaged set" in base.log


def test_a_run_with_nothing_to_do_says_so_and_writes_nothing(
    job: JobRunner, langchain: Database
) -> None:
    done = job({"backup_vector_tables": False})

    assert done.run.status is dg.DagsterRunStatus.SUCCESS
    assert done.result["backup_performed"] is False
    assert done.result["tables_backed_up"] == {}
    assert done.result["errors"] == []
    assert list(job.root.iterdir()) == []


@pytest.mark.parametrize(
    "config",
    [
        {"bogus": 1},
        {"resources": {"postgres": {"config": {"connection_variable": "OTHER"}}}},
        {"export_method": {"env": "TELEPATHY"}},
    ],
    ids=str,
)
def test_dagster_refuses_an_invalid_config_before_the_run(
    job: JobRunner, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TELEPATHY", "telepathy")
    with pytest.raises(dg.DagsterInvalidConfigError):
        job(config)
    assert list(job.root.iterdir()) == []


@pytest.mark.parametrize(
    ("config", "error_type"),
    [
        ({"task_id": "../x"}, "INVALID_PARAMS"),
        ({"tables": ["t"], "truncate_vector_tables": True}, "INVALID_PARAMS"),
        ({"task_id": "missing"}, "RESOURCE_NOT_FOUND"),
    ],
    ids=str,
)
def test_a_refused_run_reports_the_reason_before_it_ends(
    job: JobRunner, config: dict[str, Any], error_type: str
) -> None:
    done = job(config)

    assert done.run.status is dg.DagsterRunStatus.FAILURE
    assert done.outcome.error_type == error_type
    assert list(done.result) == RESULT_KEYS
    assert done.result["backup_performed"] is False
    assert done.result["tables_backed_up"] == {}
    assert done.result["errors"] == [f"{error_type}: {done.outcome.message}"]
    types = [event.event_type_value for event in done.events]
    reported = next(i for i, event in enumerate(done.events) if _has_result(event))
    assert reported < types.index(dg.DagsterEventType.RUN_FAILURE.value)
    assert not list(job.root.rglob("*.csv"))


def test_invalid_settings_are_reported_like_parameters(
    job: JobRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PREFIX + "TIMEZONE", "Mars/Olympus")

    done = job()

    assert done.outcome.error_type == "INVALID_PARAMS"
    assert done.result["errors"][0].startswith("INVALID_PARAMS: VECTOR_BACKUP_TIMEZONE: ")


def test_a_failed_table_fails_its_step_and_the_others_are_exported(
    job: JobRunner, langchain: Database
) -> None:
    langchain.run("CREATE VIEW a_view AS SELECT 1 AS one")
    tables = ["nope", "a_view", "langchain_pg_embedding"]

    done = job({"tables": tables, "truncate_vector_tables": True})

    assert done.run.status is dg.DagsterRunStatus.FAILURE
    failed = {"export_table[nope]", "export_table[a_view]"}
    assert set(done.steps("STEP_FAILURE")) == failed
    assert "export_table[langchain_pg_embedding]" in done.steps("STEP_SUCCESS")
    assert "write_backup_log" in done.steps("STEP_SUCCESS")
    assert "truncate_embedding_table" not in done.steps("STEP_START")
    assert done.outcome.error_type == "TABLE_NOT_FOUND"
    assert list(done.result["tables_backed_up"]["nope"]) == [
        "success",
        "error_type",
        "error",
        "duration",
    ]
    assert done.result["tables_backed_up"]["langchain_pg_embedding"]["success"] is True
    assert done.result["backup_performed"] is False
    assert done.result["truncate_results"] == {}
    assert done.result["errors"][0].startswith("nope: TABLE_NOT_FOUND: ")
    assert done.manifest["complete"] is False
    assert "✗ nope: FAILED" in done.log
    assert "✓ langchain_pg_embedding: 58 rows" in done.log
    assert [m.asset_key.path[-1] for m in _materializations(done)] == ["langchain_pg_embedding"]
    assert langchain.ask_one("SELECT count(*) FROM langchain_pg_embedding") == 58
    wait_until_nothing_is_open(langchain)


def test_progress_events_have_rate_percent_and_time_left(
    job: JobRunner, langchain: Database
) -> None:
    langchain.run(
        "CREATE TABLE wide AS SELECT i, repeat(md5(i::text), 60) AS t "
        "FROM generate_series(1, 20000) i; ANALYZE wide"
    )

    done = job({"tables": ["wide"], "progress_every": 1000, "workers": 2})

    events: list[dict[str, Any]] = [
        {key: value.value for key, value in event.engine_event_data.metadata.items()}
        for event in done.of_type("ENGINE_EVENT")
        if event.step_key == "export_table[wide]" and "percent" in event.engine_event_data.metadata
    ]
    assert len(events) > 2
    assert set(events[0]) >= {"table", "rows", "size", "rows_per_second", "percent"}
    assert any("seconds_left" in t for t in events[:-1])
    assert all(
        later["rows"] // 1000 > earlier["rows"] // 1000 for earlier, later in pairwise(events)
    )
    assert 0 <= events[0]["percent"] < 100
    assert all(earlier["percent"] <= later["percent"] for earlier, later in pairwise(events))


def _the_job() -> dg.JobDefinition:
    return defs.resolve_job_def(vector_backup_job.name)


def test_re_executing_from_the_failure_says_to_run_all_steps_and_truncates_nothing(
    dagster_home: Path, root: Path, langchain: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATABASE_URL_VARIABLE, langchain.url)
    langchain.run("ALTER TABLE langchain_pg_embedding RENAME TO hidden")
    job = dg.reconstructable(_the_job)
    config = {"truncate_vector_tables": True}
    with dg.DagsterInstance.get() as instance:
        with dg.execute_job(job, instance=instance, run_config=config) as first:
            assert not first.success
        langchain.run("ALTER TABLE hidden RENAME TO langchain_pg_embedding")
        options = dg.ReexecutionOptions.from_failure(first.run_id, instance)
        with dg.execute_job(
            job, instance=instance, run_config=config, reexecution_options=options
        ) as again:
            done = finished(instance, again.run_id)

    assert done.run.status is dg.DagsterRunStatus.FAILURE
    assert done.steps("STEP_FAILURE") == ["export_table[langchain_pg_embedding]"]
    assert done.outcome.error_type == "INVALID_PARAMS"
    assert "re-execute all steps" in (done.outcome.message or "")
    assert langchain.ask_one("SELECT count(*) FROM langchain_pg_embedding") == 58


def _has_result(event: dg.DagsterEvent) -> bool:
    return BACKUP.result_key in (getattr(event.event_specific_data, "metadata", None) or {})


def _materializations(done: FinishedRun) -> list[dg.AssetMaterialization]:
    return [
        event.step_materialization_data.materialization
        for event in done.of_type("ASSET_MATERIALIZATION")
    ]


@pytest.mark.parametrize("left_out", ["export_table", "pin_snapshot"])
def test_a_run_that_left_a_table_out_is_no_success(
    job: JobRunner, langchain: Database, left_out: str
) -> None:
    steps = ["resolve_backup_directory", "pin_snapshot", "write_backup_log"]

    done = job.some_steps([step for step in steps if step != left_out])

    assert done.run.status is dg.DagsterRunStatus.FAILURE
    assert done.result["backup_performed"] is False
    assert "INVALID_PARAMS" in done.result["errors"][0]
    assert "FAILED (INVALID_PARAMS)" in done.log
