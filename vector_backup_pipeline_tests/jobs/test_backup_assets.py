"""The backups as assets: their partitions and checks, and backups by "Materialize"."""

from typing import Any

import dagster as dg
import pytest

from vector_backup_pipeline.assets import (
    LOCATIONS_NAME,
    RESTORE_DRILL,
    ROW_COUNT_DROP,
    STORED_FILES,
    source_asset_specs,
    table_asset_key,
)
from vector_backup_pipeline.definitions import defs
from vector_backup_pipeline.jobs.backup_assets import backup_assets
from vector_backup_pipeline.jobs.verify import latest_backup_checks
from vector_backup_pipeline.resources import ProgressResource, job_resources
from vector_backup_pipeline.settings import PREFIX, load_settings
from vector_backup_pipeline_tests.fix_backup import LANGCHAIN
from vector_backup_pipeline_tests.fix_dagster import FinishedRun, JobRunner, finished
from vector_backup_pipeline_tests.fix_postgres import Database

COLLECTIONS, EMBEDDINGS = LANGCHAIN


def materialize(
    job: JobRunner, partition: str, *tables: str, loaded: dg.Definitions = defs
) -> FinishedRun:
    """As the button of the UI does, with all checks of the tables."""
    assets = dg.AssetSelection.assets(*map(table_asset_key, tables))
    by_hand = dg.define_asset_job("by_hand", selection=assets)
    both = dg.Definitions.merge(loaded, dg.Definitions(jobs=[by_hand]))
    done = both.resolve_job_def("by_hand").execute_in_process(
        partition_key=partition, instance=job.instance, raise_on_error=False
    )
    return finished(job.instance, done.run_id)


def materialized(done: FinishedRun) -> dict[str, dg.AssetMaterialization]:
    events = done.of_type("ASSET_MATERIALIZATION")
    made = [event.step_materialization_data.materialization for event in events]
    return {materialization.asset_key.path[-1]: materialization for materialization in made}


def evaluations(done: FinishedRun) -> dict[tuple[str, str], dg.AssetCheckEvaluation]:
    data = [event.asset_check_evaluation_data for event in done.of_type("ASSET_CHECK_EVALUATION")]
    return {(check.asset_key.path[-1], check.check_name): check for check in data}


def test_materialize_makes_the_same_backup_as_the_job(job: JobRunner) -> None:
    (job.root / "corpus_7").mkdir()
    job.instance.add_dynamic_partitions(LOCATIONS_NAME, ["corpus_7"])

    of_button = materialize(job, "corpus_7", *LANGCHAIN)
    manifest, log = of_button.manifest, of_button.log
    of_job = job({"task_id": "corpus_7"})

    assert of_button.run.status is dg.DagsterRunStatus.SUCCESS
    assert of_button.directory == of_job.directory
    assert manifest["complete"] is True
    assert manifest["run_id"] == of_button.run.run_id
    assert "SUCCESS" in log
    assert of_button.result.keys() == of_job.result.keys()
    made, by_job = materialized(of_button), materialized(of_job)
    assert made.keys() == by_job.keys() == set(LANGCHAIN)
    for table in LANGCHAIN:
        assert made[table].partition == by_job[table].partition == "corpus_7"
        assert made[table].metadata.keys() == by_job[table].metadata.keys()
        assert made[table].metadata["digest"] == by_job[table].metadata["digest"]
    checks = {(table, name) for table in LANGCHAIN for name in (STORED_FILES, ROW_COUNT_DROP)}
    assert evaluations(of_button).keys() == evaluations(of_job).keys() == checks


def test_materializing_one_table_of_the_root_backs_up_no_other(job: JobRunner) -> None:
    job.instance.add_dynamic_partitions(LOCATIONS_NAME, ["vector_bak"])

    done = materialize(job, "vector_bak", COLLECTIONS)

    assert list(done.result["tables_backed_up"]) == [COLLECTIONS]
    assert done.directory == job.root / "vector_bak"
    assert list(materialized(done)) == [COLLECTIONS]


def test_tables_may_have_any_names(
    job: JobRunner, langchain: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = ("Größe", "数据", "a b", "a-b", "a/b")
    for table in tables:
        langchain.run(f'CREATE TABLE "{table}" (id int)')
    monkeypatch.setenv(PREFIX + "TABLES", ",".join(tables))
    settings = load_settings()
    loaded = dg.Definitions(
        assets=[*source_asset_specs(settings), backup_assets(settings)],
        asset_checks=[latest_backup_checks([settings])],
        resources=job_resources(ProgressResource()),
        executor=dg.in_process_executor,
    )
    job.instance.add_dynamic_partitions(LOCATIONS_NAME, ["vector_bak"])

    done = materialize(job, "vector_bak", *tables, loaded=loaded)

    assert done.run.status is dg.DagsterRunStatus.SUCCESS
    assert materialized(done).keys() == set(tables)
    assert evaluations(done).keys() == {
        (t, c) for t in tables for c in (STORED_FILES, ROW_COUNT_DROP)
    }


def test_a_table_that_fails_fails_the_run_and_the_other_is_materialized(
    job: JobRunner, langchain: Database
) -> None:
    job.instance.add_dynamic_partitions(LOCATIONS_NAME, ["vector_bak"])
    langchain.run("DROP TABLE langchain_pg_embedding")

    done = materialize(job, "vector_bak", *LANGCHAIN)

    assert done.run.status is dg.DagsterRunStatus.FAILURE
    assert done.outcome.error_type == "TABLE_NOT_FOUND"
    assert done.manifest["complete"] is False
    assert list(materialized(done)) == [COLLECTIONS]


@pytest.mark.parametrize("is_truncated", [False, True])
def test_a_table_that_lost_most_rows_gets_a_warning_unless_a_backup_truncated_it(
    job: JobRunner, langchain: Database, is_truncated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PREFIX + "MAX_DROP", "20")
    config: dict[str, Any] = {"truncate_vector_tables": True} if is_truncated else {}
    first = job(config)
    langchain.run("DELETE FROM langchain_pg_embedding WHERE id > 'doc-4'")

    done = job()

    assert evaluations(first)[EMBEDDINGS, ROW_COUNT_DROP].passed
    drop = evaluations(done)[EMBEDDINGS, ROW_COUNT_DROP]
    assert (drop.passed, drop.severity) == (is_truncated, dg.AssetCheckSeverity.WARN)
    assert evaluations(done)[COLLECTIONS, ROW_COUNT_DROP].passed
    assert (EMBEDDINGS, RESTORE_DRILL) not in evaluations(done)
