"""Consolidation after a backup whose chain has become long."""

from __future__ import annotations

import dagster as dg
import pytest

from vector_backup_pipeline.operations import PRUNE
from vector_backup_pipeline.settings import PREFIX
from vector_backup_pipeline_tests.fix_dagster import FinishedRun, JobRunner

_RESULT = "consolidate_result"


@pytest.fixture(autouse=True)
def three_sets_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIX + "MODE", "auto")
    monkeypatch.setenv(PREFIX + "CONSOLIDATE_AFTER", "3")


def _log_metadata(done: FinishedRun) -> dict[str, object]:
    assert done.run.status is dg.DagsterRunStatus.SUCCESS
    return done.metadata("STEP_OUTPUT", "write_backup_log")


def test_a_chain_of_as_many_sets_is_consolidated_and_the_next_run_prunes_it(
    job: JobRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PREFIX + "PRUNE_AFTER_BACKUP", "true")
    monkeypatch.setenv(PREFIX + "KEEP_LAST", "1")
    assert [_RESULT in _log_metadata(job()) for _ in range(2)] == [False, False]

    done = job()

    result = _log_metadata(done)[_RESULT]
    assert isinstance(result, dict)
    assert (result["consolidated"], len(result["chain"])) == (True, 3)
    stamp = result["set_timestamp"]
    assert f"consolidate {stamp}: SUCCESS" in done.log
    following = job()
    table = following.result["tables_backed_up"]["langchain_pg_embedding"]
    assert table["builds_on"] == stamp
    metadata = _log_metadata(following)
    pruned = metadata[PRUNE.result_key]
    assert isinstance(pruned, dict)
    (location,) = pruned["locations"]
    assert {removed["timestamp"] for removed in location["removed"]} == {*result["chain"]}
    assert _RESULT not in metadata
