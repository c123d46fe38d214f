"""The terminal door."""

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
from vector_backup_pipeline.settings import PREFIX
from vector_backup_pipeline_tests.fix_dagster import CHECKOUT, RESULT_KEYS
from vector_backup_pipeline_tests.fix_postgres import Database
from vector_backup_pipeline_tests.fix_sets import COLLECTION, EMBEDDING, SetWriter
from vector_backup_pipeline_tests.fix_terminal import Terminal


def test_a_backup_shows_its_tables_and_ends_with_0(installed: Database, terminal: Terminal) -> None:
    called = terminal("backup")

    assert called.code == 0
    assert "✓ langchain_pg_embedding: 58 rows -> langchain_pg_embedding_" in called.out
    assert called.err == ""


def test_json_is_the_result_in_the_contracts_order_and_nothing_else(
    installed: Database, terminal: Terminal
) -> None:
    called = terminal("backup", "--json")

    assert called.code == 0
    assert list(called.document) == RESULT_KEYS
    assert called.err == ""


def test_json_of_a_failure_has_the_error_and_the_data(
    installed: Database, terminal: Terminal
) -> None:
    called = terminal("backup", "--json", "--tables", "nope,langchain_pg_embedding")

    assert called.code == 1
    assert list(called.document) == ["success", "error_type", "message", "can_retry", "data"]
    assert called.document["success"] is False
    assert called.document["error_type"] == "TABLE_NOT_FOUND"
    assert list(called.document["data"]) == RESULT_KEYS
    assert called.document["data"]["tables_backed_up"]["langchain_pg_embedding"]["success"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--task-id", "../x"),
        ("--workers", "0"),
        ("--workers", "many"),
        ("--compression-level", "3"),
        ("--tables", ","),
        ("--export-method", "telepathy"),
        ("--bogus",),
        ("surplus",),
        ("--db-connection", "postgresql//u:geheim@h/d"),
        ("--truncate", "--tables", "langchain_pg_collection"),
    ],
    ids=" ".join,
)
def test_bad_parameters_end_with_2_before_a_run(
    installed: Database, terminal: Terminal, root: Path, arguments: Sequence[str]
) -> None:
    called = terminal("backup", "--json", *arguments)

    assert called.code == 2
    assert list(called.document) == ["success", "error_type", "message", "can_retry"]
    assert called.document["error_type"] == "INVALID_PARAMS"
    assert "geheim" not in called.out + called.err
    assert list(root.iterdir()) == []
    in_words = terminal("backup", *arguments)
    assert (in_words.code, in_words.out) == (2, "")
    assert in_words.err.startswith("INVALID_PARAMS: ")


def test_settings_that_make_no_sense_end_with_2(
    installed: Database, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PREFIX + "TIMEZONE", "Mars/Olympus")

    called = terminal("backup", "--json")

    assert called.code == 2
    assert called.document["message"].startswith("VECTOR_BACKUP_TIMEZONE: ")


@pytest.mark.parametrize("home", ["relative", "/not/there"])
def test_a_dagster_home_that_is_none_ends_with_2(
    installed: Database, terminal: Terminal, home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", home)

    called = terminal("backup", "--json")

    assert called.code == 2
    assert called.document["message"].startswith("DAGSTER_HOME: ")


def test_a_missing_task_directory_ends_with_1(installed: Database, terminal: Terminal) -> None:
    called = terminal("backup", "--json", "--task-id", "not_there")

    assert called.code == 1
    assert called.document["error_type"] == "RESOURCE_NOT_FOUND"


def test_a_defect_still_gives_one_document(
    installed: Database, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("vector_backup_pipeline.launch.launch", broken)

    called = terminal("backup", "--json")

    assert called.code == 1
    assert called.document["error_type"] == "INTERNAL_ERROR"
    assert "ZeroDivisionError" in called.err


def test_every_flag_becomes_its_parameter(
    langchain: Database,
    terminal: Terminal,
    root: Path,
    dagster_home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
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
    with dg.DagsterInstance.get() as instance:
        (run,) = instance.get_runs()
    assert run.job_name == "vector_backup_job"
    assert run.status is dg.DagsterRunStatus.SUCCESS
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


def test_runs_show_in_an_instance_that_init_configures(
    installed: Database, terminal: Terminal, dagster_home: Path
) -> None:
    (dagster_home / "dagster.yaml").unlink()
    assert terminal("init", str(dagster_home)).code == 0

    assert terminal("backup", "--json").code == 0
    with dg.DagsterInstance.get() as instance:
        (run,) = instance.get_runs()
    assert run.job_name == "vector_backup_job"
    # By this tag the UI files a run in the job's history.
    assert run.tags[".dagster/repository"] == "__repository__@vector_backup_pipeline"


@pytest.mark.parametrize("name", ["backup", "check", "demo", "list"])
def test_help_explains_each_flag_with_its_default_and_an_example(
    terminal: Terminal, name: str
) -> None:
    called = terminal(name, "--help")

    assert called.code == 0
    assert "Examples:" in called.out
    command = cli.commands.commands[name]
    for option in command.params:
        assert isinstance(option, click.Option)
        assert option.help, option.name
        if not option.is_flag:
            assert option.show_default or "Default: " in option.help, option.name
            assert re.search(r"such as|--\S|:", option.help), option.name


def test_without_a_command_the_help_is_shown(terminal: Terminal) -> None:
    called = terminal()

    assert called.code == 0
    assert "backup" in called.out


def test_as_a_process_it_writes_its_result_on_stdout_and_no_log_line_or_warning_anywhere(
    installed: Database, dagster_home: Path
) -> None:
    """In an instance that nobody has configured, of which Dagster would warn."""
    (dagster_home / "dagster.yaml").unlink()
    command = "from vector_backup_pipeline.cli import main; main()"

    done = subprocess.run(
        [sys.executable, "-c", command, "backup", "--json"],
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.returncode == 0
    assert json.loads(done.stdout)["backup_performed"] is True
    # Once for each DAGSTER_HOME Dagster tells of its telemetry.
    assert not re.search("WARNING|Warning|DEBUG|No dagster instance", done.stderr)


@pytest.mark.parametrize("output", ["latin-1", "full disk", "closed pipe"])
def test_output_that_can_not_be_written_never_changes_the_exit_code(
    installed: Database, root: Path, output: str
) -> None:
    command = "from vector_backup_pipeline.cli import main; main()"
    encoding = "latin-1" if output == "latin-1" else "utf-8"
    read_end, write_end = os.pipe()
    os.close(read_end)
    with Path("/dev/full").open("w") as full:
        files: dict[str, Any] = {"full disk": full, "closed pipe": write_end}
        done = subprocess.run(
            [sys.executable, "-c", command, "backup"],
            env=os.environ | {"PYTHONPATH": str(CHECKOUT), "PYTHONIOENCODING": encoding},
            stdout=files.get(output, subprocess.PIPE),
            stderr=subprocess.PIPE,
            timeout=120,
        )
    os.close(write_end)

    assert done.returncode == 0
    assert ("No space left" in done.stderr.decode(encoding)) == (output == "full disk")
    if output == "latin-1":
        assert b"? langchain_pg_embedding: 58 rows" in done.stdout
    assert len(list(root.glob("vector_bak/vector_backup_*[0-9].json"))) == 1


@pytest.fixture
def sets(root: Path) -> SetWriter:
    """Sets in the root's own directory."""
    return SetWriter(root / "vector_bak")


def _cells(line: str) -> list[str]:
    """The columns of a line of the list, which stand at least two spaces apart."""
    return re.split(r" {2,}", line.strip())


def test_a_finished_backup_is_listed(installed: Database, terminal: Terminal) -> None:
    stamp = re.search(rf"{EMBEDDING}_(\w+)\.csv", terminal("backup").out)
    assert stamp is not None

    listed = terminal("list", "--json")

    assert (listed.code, listed.err) == (0, "")
    (location,) = listed.document["backup_locations"]
    assert location["backups"][0]["timestamp"] == stamp[1]
    assert location["backups"][0]["has_log"]


def test_the_list_is_a_table_a_location(terminal: Terminal, root: Path, sets: SetWriter) -> None:
    sets.write("20250101_000000", {COLLECTION: 4})
    sets.write("20250102_000000", {COLLECTION: 4}, failed=[EMBEDDING])
    sets.file("t_20250103_000000.csv")
    of_task = SetWriter(root / "corpus_7" / "vector_bak")
    of_task.older("20250104_000000")
    of_task.adopt()
    of_task.older("20250105_000000")

    listed = terminal("list")

    assert (listed.code, listed.err) == (0, "")
    lines = listed.out.splitlines()
    assert lines[0] == f"Backups of the root: {root}/vector_bak"
    assert [_cells(line) for line in lines[1:4]] == [
        ["TIMESTAMP", "DATE", "DATABASE", "STATE", "FILES"],
        [
            "20250102_000000",
            "2025-01-02 00:00:00 UTC",
            "d",
            "incomplete",
            f"{COLLECTION}_20250102_000000.csv (4 rows, 88.0 B)",
        ],
        [
            "20250101_000000",
            "2025-01-01 00:00:00 UTC",
            "d",
            "complete",
            f"{COLLECTION}_20250101_000000.csv (4 rows, 88.0 B)",
        ],
    ]
    assert lines[4:7] == [
        "  orphan: t_20250103_000000.csv",
        "",
        f"Backups of task corpus_7: {root}/corpus_7/vector_bak",
    ]
    file = f"{COLLECTION}_20250104_000000.csv (4 rows, 45.0 B)"
    assert _cells(lines[8])[2:] == ["older_system", "complete", file]
    assert lines[10:] == [
        f"  adoptable: {table}_20250105_000000.csv" for table in (COLLECTION, EMBEDDING)
    ]
    assert len({line.index("2025-") for line in (lines[2], lines[3])}) == 1


def test_every_file_of_a_set_has_its_line(terminal: Terminal, sets: SetWriter) -> None:
    sets.write("20250101_000000")

    first, second = terminal("list").out.splitlines()[2:]

    assert second.strip() == f"{EMBEDDING}_20250101_000000.csv (58 rows, 1.1 KB)"
    assert second.index(EMBEDDING) == first.index(COLLECTION)


@pytest.mark.parametrize(
    ("verdict", "state"),
    [
        (
            '{"passed": true, "verified_at": "2026-11-24T10:00:00Z", "drill": {"passed": false}}',
            "complete, verified 2026-11-24, drill failed 2026-11-24",
        ),
        (
            '{"passed": false, "verified_at": "2026-11-24T10:00:00Z"}',
            "damaged, verification failed 2026-11-24",
        ),
        ("{", "complete"),
    ],
)
def test_a_verified_set_says_so(
    terminal: Terminal, sets: SetWriter, verdict: str, state: str
) -> None:
    sets.write("20250101_000000")
    sets.file("vector_backup_20250101_000000.verified.json", verdict.encode())

    assert _cells(terminal("list").out.splitlines()[2])[3] == state


def test_what_is_wrong_with_a_set_is_shown(terminal: Terminal, sets: SetWriter) -> None:
    sets.write("20250104_000000", truncate="done", truncated=[EMBEDDING])
    sets.file(f"{COLLECTION}_20250104_000000.csv", b"short")
    sets.write("20250103_000000")
    (sets.path / f"{COLLECTION}_20250103_000000.csv").unlink()
    sets.file("vector_backup_20250102_000000.json", b"{")

    lines = terminal("list").out.splitlines()[2:]

    states = [_cells(line)[3] for line in lines if line.startswith("  2025")]
    assert states == [f"damaged, truncated {EMBEDDING}", "damaged", "damaged"]
    assert f"{COLLECTION}_20250104_000000.csv (4 rows, 88.0 B, 5.0 B stored)" in lines[0]
    assert f"{COLLECTION}_20250103_000000.csv (4 rows, 88.0 B, missing)" in lines[2]


def test_a_file_name_can_not_speak_to_the_terminal(terminal: Terminal, sets: SetWriter) -> None:
    sets.file("\x1b[2Jt\n_20250101_000000.csv")

    assert "  orphan: ?[2Jt?_20250101_000000.csv\n" in terminal("list").out


def test_without_backups_the_list_says_so(terminal: Terminal, root: Path) -> None:
    listed = terminal("list")

    assert (listed.code, listed.out) == (0, f"No backups under {root}.\n")


def test_the_list_can_be_of_one_task_or_of_the_root(
    terminal: Terminal, root: Path, sets: SetWriter
) -> None:
    sets.write("20250101_000000")
    SetWriter(root / "corpus_7" / "vector_bak").write("20250102_000000")

    of_task = terminal("list", "--task-id", "corpus_7").out
    of_root = terminal("list", "--global-only").out

    assert ("20250101_000000" in of_task, "20250102_000000" in of_task) == (False, True)
    assert ("20250101_000000" in of_root, "20250102_000000" in of_root) == (True, False)


@pytest.mark.parametrize(
    ("arguments", "code", "error_type"),
    [
        (("--task-id", "../x"), 2, "INVALID_PARAMS"),
        (("--task-id", "x", "--global-only"), 2, "INVALID_PARAMS"),
        (("--bogus",), 2, "INVALID_PARAMS"),
        (("--task-id", "not_there"), 1, "RESOURCE_NOT_FOUND"),
    ],
)
def test_a_list_that_can_not_be_is_an_error_document(
    terminal: Terminal, root: Path, arguments: Sequence[str], code: int, error_type: str
) -> None:
    called = terminal("list", "--json", *arguments)

    assert called.code == code
    assert list(called.document) == ["success", "error_type", "message", "can_retry"]
    assert called.document["error_type"] == error_type
    assert called.err == ""
    in_words = terminal("list", *arguments)
    assert (in_words.code, in_words.out) == (code, "")
    assert in_words.err.startswith(f"{error_type}: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("list", "--json"),
        ("list", "--bogus"),
        ("backup", "--help"),
        ("check", "--help"),
    ],
)
def test_what_needs_no_run_does_without_dagster(root: Path, arguments: Sequence[str]) -> None:
    command = ["-X", "importtime", "-m", "vector_backup_pipeline.cli"]

    done = subprocess.run(
        [sys.executable, *command, *arguments],
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.returncode == (2 if "--bogus" in arguments else 0)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "vector_backup_pipeline.cli" in imported
    assert not imported & {"dagster", "psycopg2"}


def test_signals_that_come_at_once_are_one_interrupt(
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


@pytest.mark.parametrize("flags", [["-v"], []])
def test_the_flag_logs_each_phase_on_standard_error(
    flags: list[str], installed: Database, terminal: Terminal
) -> None:
    called = terminal(*flags, "backup", "--json")

    assert called.code == 0
    assert called.document["backup_performed"]
    logged = [line.split(" INFO ")[1] for line in called.err.splitlines() if " INFO " in line]
    phases = ["Snapshot pinned", "Exported", "Exported", "Manifest written"]
    assert [next(p for p in phases if line.startswith(p)) for line in logged] == (
        phases if flags else []
    )
