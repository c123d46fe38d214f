"""`vector-backup check`, from the terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from vector_backup_pipeline.dagster_check import check_dagster, longest_pause
from vector_backup_pipeline.environment_check import read_environment
from vector_backup_pipeline.settings import PREFIX, load_settings
from vector_backup_pipeline_tests.fix_checkup import EMBEDDINGS, Found
from vector_backup_pipeline_tests.fix_postgres import Database
from vector_backup_pipeline_tests.fix_terminal import Called, Terminal

AREAS = ["settings", "database", "tables", "storage", "space", "clock", "backups", "dagster"]


def finding(called: Called, area: str, name: str) -> dict[str, Any]:
    (found,) = [
        each for each in called.document["findings"] if (each["area"], each["name"]) == (area, name)
    ]
    return dict(found)


def test_a_good_configuration_ends_with_0_and_leaves_nothing(
    installed: Database, terminal: Terminal, root: Path, dagster_home: Path
) -> None:
    called = terminal("check")

    assert (called.code, called.err) == (0, "")
    lines = called.out.splitlines()
    assert [line for line in lines if line and not line.startswith(" ")][:-1] == AREAS
    assert f"  ✓ {EMBEDDINGS}: can be read" in called.out
    assert "✗" not in called.out
    assert re.fullmatch(r"\d+ ok\. A backup can be made: vector-backup backup", lines[-1])
    assert list(root.iterdir()) == []


def test_json_has_every_finding_and_nothing_else_is_on_stdout(
    installed: Database, terminal: Terminal
) -> None:
    called = terminal("check", "--json")

    assert (called.code, called.err) == (0, "")
    assert list(called.document) == ["success", "findings"]
    assert called.document["success"] is True
    for each in called.document["findings"]:
        assert list(each) == ["area", "name", "status", "message", "advice"]
    assert list(dict.fromkeys(each["area"] for each in called.document["findings"])) == AREAS


def test_what_fails_ends_with_1_and_is_told_with_what_mends_it(
    installed: Database, terminal: Terminal
) -> None:
    called = terminal("check", "--tables", "Langchain_pg_embedding")

    assert called.code == 1
    assert "  ✗ Langchain_pg_embedding: The table Langchain_pg_embedding is not there" in called.out
    assert f"\n      There is public.{EMBEDDINGS}: name it so" in called.out
    assert "1 failed" in called.out.splitlines()[-1]
    assert "Fix the items marked ✗" in called.out.splitlines()[-1]
    as_json = terminal("check", "--json", "--tables", "Langchain_pg_embedding")
    assert (as_json.code, as_json.document["success"]) == (1, False)


def test_a_given_connection_comes_first_and_is_never_shown(
    langchain: Database, terminal: Terminal, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VECTOR_BACKUP_DB_URL", "postgresql://nobody@127.0.0.1:1/nowhere")
    monkeypatch.setenv("PGPASSWORD", "geheim-of-the-worker")
    role = f"given_{langchain.name}"
    url = langchain.create_role(role, "geheim-0815")

    called = terminal("check", "--db-connection", url)

    assert f"as {role}" in called.out
    assert "geheim" not in called.out + called.err
    stands_alone = terminal("check", "--db-connection", url.replace(":geheim-0815", ""))
    assert "no password supplied" in stands_alone.out


@pytest.mark.parametrize(
    "arguments",
    [
        ("--task-id", "../x"),
        ("--workers", "0"),
        ("--workers", "many"),
        ("--tables", ","),
        ("--bogus",),
        ("--db-connection", "postgresql//u:geheim@h/d"),
    ],
    ids=" ".join,
)
def test_bad_parameters_end_with_2_before_anything_is_tried(
    terminal: Terminal, root: Path, arguments: Sequence[str]
) -> None:
    called = terminal("check", "--json", *arguments)

    assert called.code == 2
    assert list(called.document) == ["success", "error_type", "message", "can_retry"]
    assert called.document["error_type"] == "INVALID_PARAMS"
    assert "geheim" not in called.out + called.err
    assert terminal("check", *arguments).out == ""


def test_wrong_variables_are_all_told_and_the_rest_is_checked(
    installed: Database,
    terminal: Terminal,
    dagster_home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(PREFIX + "TIMEZONE", "Mars/Olympus")
    monkeypatch.setenv(PREFIX + "CRON", "at night")
    monkeypatch.setenv(PREFIX + "PRUNE_CRON", "never")
    monkeypatch.setenv(PREFIX + "TABLES", "a,a")
    monkeypatch.setenv(PREFIX + "ROTO", "/srv")

    called = terminal("check", "--json")

    assert called.code == 1
    wrong = {
        each["name"]: each["message"]
        for each in called.document["findings"]
        if each["area"] == "settings" and each["status"] == "failed"
    }
    assert wrong.keys() == {PREFIX + name for name in ("TIMEZONE", "CRON", "PRUNE_CRON", "TABLES")}
    assert wrong[PREFIX + "CRON"].startswith("'at night' is not a cron expression")
    assert finding(called, "settings", PREFIX + "ROTO")["advice"] == f"Did you mean {PREFIX}ROOT?"
    assert finding(called, "database", "connection")["status"] == "ok"
    assert finding(called, "storage", "put")["status"] == "ok"
    assert finding(called, "tables", "tables")["status"] == "skipped"
    assert finding(called, "clock", "time zone")["status"] == "skipped"
    assert finding(called, "dagster", "schedule")["status"] == "skipped"


def test_a_root_that_makes_no_sense_is_not_replaced_by_the_default(
    installed: Database, terminal: Terminal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(PREFIX + "DIRECTORY", "../elsewhere")
    monkeypatch.chdir(tmp_path)

    called = terminal("check", "--json")

    assert called.code == 1
    assert finding(called, "storage", "directory")["status"] == "skipped"
    assert finding(called, "space", "free space")["status"] == "skipped"


def test_a_malformed_connection_string_of_the_settings_is_a_finding(
    terminal: Terminal, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VECTOR_BACKUP_DB_URL", "postgresql//u:geheim@h/d")

    called = terminal("check", "--json")

    assert called.code == 1
    assert finding(called, "settings", "VECTOR_BACKUP_DB_URL")["status"] == "failed"
    assert finding(called, "database", "connection")["status"] == "skipped"
    assert "geheim" not in called.out


def test_names_can_not_speak_to_the_terminal(installed: Database, terminal: Terminal) -> None:
    # click itself takes out what begins with an escape.
    assert "\a" not in terminal("check", "--tables", "bell\at").out


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("VECTOR_BACKUP_TABEL", "Did you mean VECTOR_BACKUP_TABLES?"),
        ("vector_backup_tables", None),
        ("VECTORBACKUP_ROOT", "Did you mean VECTOR_BACKUP_ROOT?"),
        ("VECTOR_BACKUP_ZZZ", "See the settings in docs/settings.md."),
        ("VECTOR_DATABASE", None),
    ],
)
def test_a_misspelt_variable_is_told_with_the_nearest(
    name: str, advice: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "x")
    monkeypatch.setenv(PREFIX + "ROOT", "/srv")

    found = Found(read_environment().findings)

    warnings = [each.advice for each in found.findings if each.status == "warning"]
    assert warnings == ([advice] if advice else [])


def test_a_relative_root_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    relative = Found(read_environment().findings)
    monkeypatch.setenv(PREFIX + "ROOT", "/srv/backups")
    absolute = Found(read_environment().findings)

    assert relative.of_status("warning") == [f"settings: {PREFIX}ROOT"]
    assert absolute.of_status("warning") == []


NOW = load_settings({}).timestamps.now().replace(year=2026, month=11, day=24, hour=12)


def dagster(**environment: str) -> Found:
    settings = load_settings({PREFIX + name: value for name, value in environment.items()})
    return Found(list(check_dagster(settings, NOW)))


def test_without_an_instance_runs_are_forgotten() -> None:
    assert dagster()["dagster: instance"].status == "warning"


def test_the_next_run_of_the_schedule_is_told_in_its_zone(dagster_home: Path) -> None:
    told = dagster(CRON="30 3 * * *", TIMEZONE="Asia/Shanghai")["dagster: schedule"]

    assert told.status == "ok"
    assert "is off; switched on, it would next run at 2026-11-25 03:30 CST" in told.message


def test_a_schedule_without_a_daemon_is_a_warning(dagster_home: Path) -> None:
    told = dagster(SCHEDULE_ENABLED="true")["dagster: schedule"]

    assert told.status == "warning"
    assert "dagster-daemon run" in str(told.advice)


@pytest.mark.parametrize(
    "config",
    [
        "storage: nonsense\n",
        "storage:\n  postgres:\n    postgres_ur1: postgresql://u:geheim@h/d\n",
        "storage: [\n",
    ],
)
def test_an_instance_that_does_not_open_fails(dagster_home: Path, config: str) -> None:
    (dagster_home / "dagster.yaml").write_text(config)

    told = dagster()["dagster: instance"]

    assert told.status == "failed"
    assert "does not open: " in told.message
    assert "geheim" not in told.message


def test_a_home_that_is_not_there_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", "/not/there")

    assert dagster()["dagster: instance"].status == "failed"


@pytest.mark.parametrize(("cron", "days"), [("0 2 * * *", 1), ("0 2 * * 0", 7), ("0 2 * * 1-5", 3)])
def test_backups_are_expected_after_the_schedules_longest_pause(cron: str, days: int) -> None:
    assert longest_pause(load_settings({PREFIX + "CRON": cron}), NOW).days == days
