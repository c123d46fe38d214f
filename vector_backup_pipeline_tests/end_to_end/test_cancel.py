"""A run that Dagster or a signal cancels truncates nothing and closes its connections."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from vector_backup_pipeline.settings import DATABASE_URL_VARIABLE
from vector_backup_pipeline_tests.faults.watching import wait_until_nothing_is_open
from vector_backup_pipeline_tests.fix_dagster import CHECKOUT, eventually
from vector_backup_pipeline_tests.fix_postgres import Database
from vector_backup_pipeline_tests.fix_process import child

_EXPORTING = """
    SELECT count(*) FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE 'COPY (%'
       AND state = 'active'
"""


def test_a_signal_to_the_command_cancels_its_run_in_order(
    langchain: Database, root: Path, dagster_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATABASE_URL_VARIABLE, langchain.url)
    # Its export takes long enough to be interrupted.
    langchain.run(
        "CREATE TABLE large AS SELECT i, repeat(md5(i::text), 100) AS t "
        "FROM generate_series(1, 75000) i"
    )
    command = [sys.executable, "-m", "vector_backup_pipeline.cli", "backup", "--json", "--truncate"]
    with child(
        [*command, "--workers", "1", "--tables", "large,langchain_pg_embedding"],
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        eventually(lambda: langchain.ask_one(_EXPORTING), "the export")
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)

    assert process.returncode == 130
    output = json.loads(out)
    assert output["error_type"] == "RUN_CANCELED"
    assert output["can_retry"] is True
    assert output["data"]["truncate_performed"] is False
    assert "Traceback" not in err
    wait_until_nothing_is_open(langchain)
    assert langchain.ask_one("SELECT count(*) FROM langchain_pg_embedding") == 58
    # Nothing was stored, so there is no set, only the section in the log.
    (log,) = (root / "vector_bak").iterdir()
    assert ": CANCELED by SIGTERM to the command" in log.read_text()
    with dg.DagsterInstance.get() as instance:
        (run,) = instance.get_runs()
    assert run.status is dg.DagsterRunStatus.CANCELED
