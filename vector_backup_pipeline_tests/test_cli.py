"""The command line: results, errors, exit codes, flags, output, signals."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import dagster as dg
import pytest

from vector_backup_pipeline import cli
from vector_backup_pipeline.operations import ERROR_TAG
from vector_backup_pipeline.settings import PREFIX
from vector_backup_pipeline_tests.faults.watching import count
from vector_backup_pipeline_tests.fix_dagster import CHECKOUT, RESULT_KEYS
from vector_backup_pipeline_tests.fix_postgres import Database
from vector_backup_pipeline_tests.fix_sets import SetWriter
from vector_backup_pipeline_tests.fix_terminal import Terminal
from vector_backup_pipeline_tests.jobs.test_restore_job import RESULT_KEYS as RESTORE_KEYS

ERROR_KEYS = ["success", "error_type", "message", "can_retry"]
COMMAND = [sys.executable, "-m", "vector_backup_pipeline.cli"]


def test_backup_restore_and_verify_show_what_they_did(
    installed: Database, terminal: Terminal, root: Path
) -> None:
    backup = terminal("backup")
    verify = terminal("verify")
    installed.run("TRUNCATE langchain_pg_collection, langchain_pg_embedding")
    restore = terminal("restore", "latest")

    assert (backup.code, verify.code, restore.code) == (0, 0, 0)
    assert backup.err == restore.err == ""
    assert "✓ langchain_pg_embedding: 58 rows -> langchain_pg_embedding_" in backup.out
    assert f"  in {root}/vector_bak, " in backup.out
    assert "1 of 1 sets passed" in verify.out
    assert "✓ langchain_pg_embedding: 58 rows <- langchain_pg_embedding_" in restore.out
    assert count(installed) == 58


def test_json_is_the_result_in_the_order_of_the_contract_and_nothing_else(
    installed: Database, terminal: Terminal, root: Path
) -> None:
    backup = terminal("backup", "--json")
    restore = terminal("restore", "--timestamp", "latest", "--truncate-before-restore", "--json")
    (file,) = (root / "vector_bak").glob("langchain_pg_embedding_*.csv")
    file.write_bytes(file.read_bytes().replace(b"document 7", b"document 8"))
    verify = terminal("verify", "--json")

    assert (backup.code, list(backup.document), backup.err) == (0, RESULT_KEYS, "")
    assert (restore.code, list(restore.document), restore.err) == (0, RESTORE_KEYS, "")
    assert restore.document["truncate_results"]["langchain_pg_embedding"]["rows_before"] == 58
    assert verify.code == 1
    assert verify.document["error_type"] == "INTEGRITY_ERROR"
    assert verify.document["data"]["verified"] is False


def test_json_of_a_failure_has_the_error_and_the_data(
    installed: Database, terminal: Terminal
) -> None:
    called = terminal("backup", "--json", "--tables", "nope,langchain_pg_embedding")

    assert called.code == 1
    assert list(called.document) == [*ERROR_KEYS, "data"]
    assert called.document["error_type"] == "TABLE_NOT_FOUND"
    assert list(called.document["data"]) == RESULT_KEYS
    assert called.document["data"]["tables_backed_up"]["langchain_pg_embedding"]["success"]


@pytest.mark.parametrize(
    ("arguments", "error_type"),
    [
        ("backup --task-id ../x", "INVALID_PARAMS"),
        ("backup --workers many", "INVALID_PARAMS"),
        ("backup --export-method telepathy", "INVALID_PARAMS"),
        ("backup --bogus", "INVALID_PARAMS"),
        ("backup surplus", "INVALID_PARAMS"),
        ("backup --db-connection postgresql//u:geheim@h/d", "INVALID_PARAMS"),
        ("backup --truncate --tables langchain_pg_collection", "INVALID_PARAMS"),
        ("restore", "MISSING_REQUIRED_PARAMS"),
        ("restore --timestamp yesterday", "INVALID_PARAMS"),
        ("restore --timestamp latest --rename a", "INVALID_PARAMS"),
        ("list --task-id ../x", "INVALID_PARAMS"),
        ("list --task-id x --global-only", "INVALID_PARAMS"),
        ("check --workers 0", "INVALID_PARAMS"),
        ("check --db-connection postgresql//u:geheim@h/d", "INVALID_PARAMS"),
        ("adopt", "MISSING_REQUIRED_PARAMS"),
        ("adopt --all --timestamp 20240102_030405", "INVALID_PARAMS"),
        ("adopt --timestamp latest", "INVALID_PARAMS"),
        ("adopt --all --task-id ../x", "INVALID_PARAMS"),
        ("prune --yes --keep-last 0", "MISSING_REQUIRED_PARAMS"),
        ("prune --yes --keep-last many", "INVALID_PARAMS"),
        ("prune --yes --keep-last 1 --task-id t --global-only", "INVALID_PARAMS"),
        ("consolidate --timestamp yesterday", "INVALID_PARAMS"),
        ("consolidate --task-id ../x", "INVALID_PARAMS"),
        ("unknown", "INVALID_PARAMS"),
    ],
)
def test_invalid_parameters_end_with_2_before_a_run(
    terminal: Terminal, root: Path, arguments: str, error_type: str
) -> None:
    called = terminal(*arguments.split(), "--json")

    assert called.code == 2
    assert list(called.document) == ERROR_KEYS
    assert called.document["error_type"] == error_type
    assert "geheim" not in called.out + called.err
    assert list(root.iterdir()) == []
    in_words = terminal(*arguments.split())
    assert (in_words.code, in_words.out) == (2, "")
    assert in_words.err.startswith(f"{error_type}: ")


@pytest.mark.parametrize(
    ("variable", "value"),
    [(PREFIX + "TIMEZONE", "Mars/Olympus"), ("DAGSTER_HOME", "/not/there")],
)
def test_invalid_settings_end_with_2(
    terminal: Terminal, root: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)

    called = terminal("backup", "--json")

    assert called.code == 2
    assert called.document["message"].startswith(f"{variable}: ")


def test_a_defect_gives_a_document_too(
    root: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("vector_backup_pipeline.launch.launch", broken)

    called = terminal("backup", "--json")

    assert called.code == 1
    assert called.document["error_type"] == "INTERNAL_ERROR"
    assert "ZeroDivisionError" in called.err


def test_every_flag_of_a_backup_reaches_the_engine(
    langchain: Database,
    terminal: Terminal,
    root: Path,
    dagster_home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In an instance configured by `init`; no file contains the connection string."""
    (dagster_home / "dagster.yaml").unlink()
    assert terminal("init", str(dagster_home)).code == 0
    (root / "corpus_7").mkdir()
    monkeypatch.delenv("VECTOR_BACKUP_RUN_CONNECTION", raising=False)
    langchain.run("CREATE ROLE cli_role LOGIN SUPERUSER PASSWORD 'geheim-0815'")
    url = langchain.url_as("cli_role", "geheim-0815")

    called = terminal(
        *("backup", "--json", "--task-id", "corpus_7", "--db-connection", url),
        *("--truncate", "--no-backup", "--tables", "langchain_pg_embedding"),
        *("--format", "csv", "--compression", "none", "--workers", "1"),
        *("--export-method", "cursor", "--batch-size", "7", "--progress-every", "20"),
    )

    monkeypatch.delenv("VECTOR_BACKUP_RUN_CONNECTION")
    langchain.run("DROP ROLE cli_role")
    assert called.code == 0
    assert list(called.document["tables_backed_up"]) == ["langchain_pg_embedding"]
    truncated = called.document["truncate_results"]["langchain_pg_embedding"]
    assert list(truncated) == ["success", "rows_before", "rows_after", "duration"]
    assert (truncated["rows_before"], truncated["rows_after"], count(langchain)) == (58, 0, 0)
    (manifest_file,) = (root / "corpus_7" / "vector_bak").glob("vector_backup_*.json")
    manifest = json.loads(manifest_file.read_text())
    assert (manifest["workers"], manifest["export_method"]) == (1, "cursor")
    with dg.DagsterInstance.get() as instance:
        (run,) = instance.get_runs()
    assert run.status is dg.DagsterRunStatus.SUCCESS
    # The job and the tag by which the UI finds the run in the job's history.
    assert run.job_name == "vector_backup_job"
    assert run.tags[".dagster/repository"] == "__repository__@vector_backup_pipeline"
    # Which database that string names is unknown.
    assert "vector_backup/database" not in run.tags
    assert run.run_config == {
        "task_id": "corpus_7",
        "db_connection": {"env": "VECTOR_BACKUP_RUN_CONNECTION"},
        "truncate_vector_tables": True,
        "backup_vector_tables": False,
        "tables": ["langchain_pg_embedding"],
        "format": "csv",
        "compression": "none",
        "workers": 1,
        "export_method": "cursor",
        "batch_size": 7,
        "progress_every": 20,
    }
    kept = [path for path in [*dagster_home.rglob("*"), *root.rglob("*")] if path.is_file()]
    assert kept
    assert not [path for path in kept if b"geheim-0815" in path.read_bytes()]


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_explains_each_flag_with_its_default_and_an_example(
    terminal: Terminal, name: str
) -> None:
    called = terminal(name, "--help")

    assert called.code == 0
    assert "Examples:" in called.out
    command = cli.load_command(name)
    for option in command.params:
        if not isinstance(option, click.Option):
            continue
        assert option.help, option.name
        if not option.is_flag:
            assert option.show_default or re.search("Default: |Required", option.help), option.name
            assert re.search(r"such as|--\S|:", option.help), option.name


def test_without_a_command_the_help_lists_the_commands(terminal: Terminal) -> None:
    called = terminal()

    assert called.code == 0
    for name in cli.COMMANDS:
        assert re.search(rf"^  {name} +[A-Z]", called.out, re.MULTILINE)


def test_as_a_process_it_writes_its_result_on_stdout_and_no_warning_anywhere(
    installed: Database, dagster_home: Path
) -> None:
    """In an instance without configuration, about which Dagster would warn."""
    (dagster_home / "dagster.yaml").unlink()

    done = subprocess.run(
        [*COMMAND, "backup", "--json"],
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.returncode == 0
    assert json.loads(done.stdout)["backup_performed"] is True
    # Dagster mentions its telemetry once for each DAGSTER_HOME.
    assert not re.search("WARNING|Warning|DEBUG|No dagster instance", done.stderr)


@pytest.mark.parametrize("output", ["latin-1", "full disk", "closed pipe"])
def test_output_that_cannot_be_written_never_changes_the_exit_code(root: Path, output: str) -> None:
    SetWriter(root / "vector_bak").file("✓_20250101_000000.csv")
    encoding = "latin-1" if output == "latin-1" else "utf-8"
    read_end, write_end = os.pipe()
    os.close(read_end)
    with Path("/dev/full").open("w") as full:
        files: dict[str, Any] = {"full disk": full, "closed pipe": write_end}
        done = subprocess.run(
            [*COMMAND, "list"],
            env=os.environ | {"PYTHONPATH": str(CHECKOUT), "PYTHONIOENCODING": encoding},
            stdout=files.get(output, subprocess.PIPE),
            stderr=subprocess.PIPE,
            timeout=120,
        )
    os.close(write_end)

    assert done.returncode == 0
    assert ("No space left" in done.stderr.decode(encoding)) == (output == "full disk")
    if output == "latin-1":
        assert b"orphan: ?_20250101_000000.csv\n" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code"), [(("list", "--json"), 0), (("backup", "--bogus"), 2)]
)
def test_what_needs_no_run_does_not_import_dagster(
    root: Path, arguments: Sequence[str], code: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *COMMAND[1:], *arguments],
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.returncode == code
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "vector_backup_pipeline.cli" in imported
    assert not imported & {"dagster", "psycopg2"}


@pytest.mark.parametrize("arguments", ["-v backup", "backup -v"])
def test_the_flag_logs_each_phase_on_standard_error(
    arguments: str, installed: Database, terminal: Terminal
) -> None:
    called = terminal(*arguments.split(), "--json")

    assert called.code == 0
    assert called.document["backup_performed"]
    logged = [line.split(" INFO ")[1] for line in called.err.splitlines() if " INFO " in line]
    phases = ["Snapshot pinned", "Exported", "Exported", "Manifest written"]
    assert [next(p for p in phases if line.startswith(p)) for line in logged] == phases


def test_a_quiet_run_prints_only_its_failure(installed: Database, terminal: Terminal) -> None:
    good = terminal("-q", "backup")
    bad = terminal("backup", "-q", "--tables", "nope")

    assert (good.code, good.out, good.err) == (0, "", "")
    assert (bad.code, bad.err.count("TABLE_NOT_FOUND: The table nope was not found")) == (1, 1)
    assert "✗ nope: FAILED" in bad.out


def test_runs_are_listed_newest_first_with_their_errors(
    installed: Database, terminal: Terminal, root: Path, dagster_home: Path
) -> None:
    (root / "corpus_7").mkdir()
    assert terminal("backup", "--task-id", "corpus_7").code == 0
    assert terminal("restore", "latest").code == 1

    restore, backup = terminal("runs", "--json").document["runs"]
    lines = terminal("runs", "--limit", "1").out.splitlines()

    assert (backup["job"], backup["status"], backup["location"]) == (
        "backup",
        "SUCCESS",
        "corpus_7",
    )
    assert backup["error_type"] is None
    assert (restore["job"], restore["status"]) == ("restore", "FAILURE")
    assert restore["error_type"] == "RESOURCE_NOT_FOUND"
    with dg.DagsterInstance.get() as instance:
        (failed,) = instance.get_runs(dg.RunsFilter([restore["run_id"]]))
    assert failed.tags[ERROR_TAG] == "RESOURCE_NOT_FOUND"
    assert len(lines) == 3
    assert re.search(f"{restore['run_id'][:8]}  restore  FAILURE .* RESOURCE_NOT_FOUND", lines[1])
    assert lines[2] == f"  ✗ {restore['run_id'][:8]}: {restore['error']}"


def test_runs_need_an_instance(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)

    called = terminal("runs")

    assert (called.code, called.out) == (2, "")
    assert called.err.startswith("INVALID_PARAMS: DAGSTER_HOME is not set.")


def test_signals_at_once_are_one_interrupt(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupts: list[int] = []

    def interrupted(*_: object, **__: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            try:
                signal.raise_signal(number)
            except KeyboardInterrupt:
                interrupts.append(number)

    monkeypatch.setattr(cli.commands, "main", interrupted)
    assert terminal().code == 0
    assert interrupts == [signal.SIGINT]
