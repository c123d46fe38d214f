"""What the jobs share: the keys of their steps, and the progress of their tables."""

import re
from pathlib import Path

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import PrivateAttr

from vector_backup_pipeline.engine.progress import Progress
from vector_backup_pipeline.jobs.backup import vector_backup_job
from vector_backup_pipeline.jobs.frame import mapping_keys
from vector_backup_pipeline.resources import ProgressResource, job_resources
from vector_backup_pipeline.settings import DATABASE_URL_VARIABLE
from vector_backup_pipeline_tests.fix_postgres import Database


def test_a_step_is_named_after_its_table() -> None:
    assert mapping_keys(["docs", "a.b", "a_b", "a-b", "a_b_2"]) == [
        "docs",
        "a_b",
        "a_b_2",
        "a_b_3",
        "a_b_2_2",
    ]


@given(st.lists(st.text(min_size=1, max_size=8), max_size=8, unique=True))
def test_every_step_has_a_name_of_its_own_that_dagster_accepts(tables: list[str]) -> None:
    keys = mapping_keys(tables)

    assert len(set(keys)) == len(tables)
    assert all(re.fullmatch(r"[A-Za-z0-9_]+", key) for key in keys)


class RecordingProgress(ProgressResource):
    """Keeps what it receives."""

    _lines: list[str] = PrivateAttr(default_factory=list)

    def table_started(self, table: str) -> None:
        self._lines.append(f"{table} started")

    def progressed(self, progress: Progress) -> None:
        self._lines.append(f"{progress.table} {progress.rows} {progress.percent}")


def test_the_progress_resource_receives_each_table_from_beginning_to_end(
    langchain: Database,
    root: Path,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(DATABASE_URL_VARIABLE, langchain.url)
    lines: list[str] = []
    monkeypatch.setattr(
        RecordingProgress, "setup_for_execution", lambda self, _: setattr(self, "_lines", lines)
    )
    job = vector_backup_job.graph.to_job(
        name="recorded",
        config=vector_backup_job.config_mapping,
        executor_def=dg.in_process_executor,
        resource_defs=job_resources() | {"progress": RecordingProgress()},
    )

    job.execute_in_process(
        run_config={"tables": ["langchain_pg_embedding", "nope"]},
        instance=instance,
        raise_on_error=False,
    )

    embedding = [line for line in lines if line.startswith("langchain_pg_embedding")]
    assert embedding[0] == "langchain_pg_embedding started"
    assert embedding[-1] == "langchain_pg_embedding 58 100.0"
    assert [line for line in lines if line.startswith("nope")] == ["nope started"]
