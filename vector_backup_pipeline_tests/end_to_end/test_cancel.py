"""A run that Dagster or a signal cancels truncates nothing and closes its connections."""

import json
import os
import signal
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import dagster as dg
import pytest

from vector_backup_pipeline.settings import DATABASE_URL_VARIABLE
from vector_backup_pipeline_tests.end_to_end.test_graphql import ended, launch, result_of
from vector_backup_pipeline_tests.faults.watching import wait_until_nothing_is_open
from vector_backup_pipeline_tests.fix_dagster import CHECKOUT, DagsterDev, eventually
from vector_backup_pipeline_tests.fix_postgres import Database
from vector_backup_pipeline_tests.fix_process import child

_EXPORTING = """
    SELECT count(*) FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE 'COPY (%'
       AND state = 'active'
"""


def _fill(database: Database) -> None:
    """Create a table whose export takes long enough to be interrupted."""
    database.run(
        "CREATE TABLE IF NOT EXISTS large AS SELECT i, repeat(md5(i::text), 100) AS t "
        "FROM generate_series(1, 75000) i"
    )


def _nothing_is_left(database: Database, directory: Path, canceler: str) -> None:
    wait_until_nothing_is_open(database)
    assert database.ask_one("SELECT count(*) FROM langchain_pg_embedding") == 58
    left = [path.name for path in directory.iterdir()]
    assert not [name for name in left if name.endswith((".tmp", ".run"))]
    # Nothing was stored, so there is no set, only the section in the log.
    assert left == ["vector_backup_log.txt"]
    assert f": CANCELED by {canceler}" in (directory / "vector_backup_log.txt").read_text()


def test_terminating_a_run_over_graphql_cancels_it_and_it_says_so(dagster_dev: DagsterDev) -> None:
    database = dagster_dev.database
    _fill(database)
    (dagster_dev.root / "to_cancel").mkdir()
    config = {
        "task_id": "to_cancel",
        "tables": ["large", "langchain_pg_embedding"],
        "truncate_vector_tables": True,
        "workers": 1,
    }
    run_id = launch(dagster_dev, config)["run"]["runId"]
    eventually(lambda: database.ask_one(_EXPORTING), "the export")

    answer = dagster_dev.ask(
        "mutation ($run: String!) { terminateRun(runId: $run) { __typename } }", run=run_id
    )

    assert answer["terminateRun"]["__typename"] == "TerminateRunSuccess"
    run = ended(dagster_dev, run_id)
    assert run["status"] == "CANCELED"
    result = result_of(run)
    assert result["backup_performed"] is False
    assert result["truncate_performed"] is False
    assert any("RUN_CANCELED" in error for error in result["errors"])
    _nothing_is_left(
        database, dagster_dev.root / "to_cancel" / "vector_bak", "a request to Dagster"
    )


def _backup_command(*arguments: str) -> AbstractContextManager[subprocess.Popen[str]]:
    command = "from vector_backup_pipeline.cli import main; main()"
    return child(
        [sys.executable, "-c", command, "backup", "--json", *arguments],
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_command_cancels_its_run_in_order(
    number: signal.Signals,
    langchain: Database,
    root: Path,
    dagster_home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(DATABASE_URL_VARIABLE, langchain.url)
    _fill(langchain)
    tables = "large,langchain_pg_embedding"

    with _backup_command("--truncate", "--workers", "1", "--tables", tables) as process:
        eventually(lambda: langchain.ask_one(_EXPORTING), "the export")
        process.send_signal(number)
        out, err = process.communicate(timeout=30)

    assert process.returncode == 130
    output = json.loads(out)
    assert output["error_type"] == "RUN_CANCELED"
    assert output["can_retry"] is True
    assert output["data"]["truncate_performed"] is False
    assert "Traceback" not in err
    _nothing_is_left(langchain, root / "vector_bak", f"{number.name} to the command")
    with dg.DagsterInstance.get() as instance:
        (run,) = instance.get_runs()
    assert run.status is dg.DagsterRunStatus.CANCELED
