"""The export step's own part: its progress events, and the bar's end after a failure."""

from pathlib import Path

import dagster as dg
import pytest
from pydantic import PrivateAttr

from vector_backup_pipeline.engine.progress import Progress
from vector_backup_pipeline.jobs.backup import vector_backup_job
from vector_backup_pipeline.resources import ProgressResource, job_resources
from vector_backup_pipeline.settings import DATABASE_URL_VARIABLE
from vector_backup_pipeline_tests.fix_postgres import Database


class Watcher(ProgressResource):
    """Keeps what an export tells."""

    _heard: list[str] = PrivateAttr(default_factory=list)

    def table_started(self, table: str) -> None:
        self._heard.append(f"{table} started")

    def progressed(self, progress: Progress) -> None:
        self._heard.append(f"{progress.table} {progress.rows} {progress.percent}")


def test_a_watcher_hears_each_table_from_beginning_to_end(
    langchain: Database,
    root: Path,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(DATABASE_URL_VARIABLE, langchain.url)
    heard: list[str] = []
    watcher = Watcher()
    watcher._heard = heard
    monkeypatch.setattr(
        Watcher, "setup_for_execution", lambda self, _: setattr(self, "_heard", heard)
    )
    job = vector_backup_job.graph.to_job(
        name="watched",
        config=vector_backup_job.config_mapping,
        executor_def=dg.in_process_executor,
        resource_defs=job_resources() | {"progress": watcher},
    )

    job.execute_in_process(
        run_config={"tables": ["langchain_pg_embedding", "nope"]},
        instance=instance,
        raise_on_error=False,
    )

    of_embedding = [line for line in heard if line.startswith("langchain_pg_embedding")]
    assert of_embedding[0] == "langchain_pg_embedding started"
    assert of_embedding[-1] == "langchain_pg_embedding 58 100.0"
    assert [line for line in heard if line.startswith("nope")] == ["nope started"]
