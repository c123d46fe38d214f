"""`vector-backup check`, from the terminal."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from vector_backup_pipeline.checkup import check_dagster
from vector_backup_pipeline.settings import PREFIX, load_settings
from vector_backup_pipeline_tests.fix_checkup import EMBEDDINGS, Report
from vector_backup_pipeline_tests.fix_postgres import Database
from vector_backup_pipeline_tests.fix_terminal import Called, Terminal

AREAS = ["settings", "database", "tables", "storage", "space", "clock", "dagster"]


def findings(called: Called, *statuses: str) -> dict[str, dict[str, Any]]:
    """The findings of these statuses, by their names."""
    return {f["name"]: f for f in called.document["findings"] if f["status"] in statuses}


def test_a_complete_configuration_ends_with_0_and_leaves_nothing(
    installed: Database, terminal: Terminal, root: Path, dagster_home: Path
) -> None:
    called = terminal("check")

    assert (called.code, called.err) == (0, "")
    lines = called.out.splitlines()
    assert [line for line in lines if line and not line.startswith(" ")][:-1] == AREAS
    assert f"  ✓ {EMBEDDINGS}: can be read" in called.out
    assert re.fullmatch(r"\d+ ok\. A backup can be made: vector-backup backup", lines[-1])
    assert list(root.iterdir()) == []


def test_a_failure_ends_with_1_and_json_has_every_finding(
    installed: Database, terminal: Terminal
) -> None:
    arguments = ("check", "--tables", "Langchain_pg_embedding")

    called, as_json = terminal(*arguments), terminal(*arguments, "--json")

    assert (called.code, as_json.code, as_json.err) == (1, 1, "")
    assert "  ✗ Langchain_pg_embedding: The table Langchain_pg_embedding" in called.out
    assert "Fix the items marked ✗" in called.out.splitlines()[-1]
    assert list(as_json.document) == ["success", "findings"]
    assert as_json.document["success"] is False
    for finding in as_json.document["findings"]:
        assert list(finding) == ["area", "name", "status", "message", "advice"]
    assert list(dict.fromkeys(f["area"] for f in as_json.document["findings"])) == AREAS


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


def test_every_invalid_setting_is_reported_before_anything_is_tried(
    terminal: Terminal, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = {"TIMEZONE": "Mars", "CRON": "at night", "PRUNE_CRON": "never", "TABLES": "a,a"}
    for name, value in wrong.items():
        monkeypatch.setenv(PREFIX + name, value)

    called = terminal("check", "--json")

    assert called.code == 1
    failed = findings(called, "failed")
    assert failed.keys() == {PREFIX + name for name in wrong}
    assert failed[PREFIX + "CRON"]["message"].startswith("'at night' is not a cron expression")
    assert len(called.document["findings"]) == len(failed)


def test_a_malformed_connection_string_of_the_settings_is_a_finding(
    terminal: Terminal, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VECTOR_BACKUP_DB_URL", "postgresql//u:geheim@h/d")

    called = terminal("check", "--json")

    assert called.code == 1
    assert findings(called, "failed").keys() == {"VECTOR_BACKUP_DB_URL"}
    assert "geheim" not in called.out


def test_suspicious_settings_are_warnings(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "relative").mkdir()
    for name, value in {
        "VECTOR_BACKUP_TABEL": "docs",
        "VECTOR_BACKUP_ZZZ": "x",
        "vector_backup_workers": "x",
        "VECTOR_DATABASE": "x",
        "VECTOR_BACKUP_TRUNCATE_TABLES": "elsewhere",
        "VECTOR_BACKUP_ROOT": "relative",
        "VECTOR_BACKUP_DB_URL": "postgresql://127.0.0.1:1/none",
    }.items():
        monkeypatch.setenv(name, value)

    by_name = findings(terminal("check", "--json"), "warning")

    assert by_name["VECTOR_BACKUP_TABEL"]["advice"] == "Did you mean VECTOR_BACKUP_TABLES?"
    assert by_name["VECTOR_BACKUP_ZZZ"]["advice"] == "See docs/settings.md."
    assert str(tmp_path / "relative") in by_name["VECTOR_BACKUP_ROOT"]["message"]
    assert "'elsewhere'" in by_name["VECTOR_BACKUP_TRUNCATE_TABLES"]["message"]
    settings = {name for name, finding in by_name.items() if finding["area"] == "settings"}
    assert not settings & {"VECTOR_DATABASE", "VECTOR_BACKUP_DB_URL"}


def test_a_mode_without_its_extra_is_a_failure(
    terminal: Terminal, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VECTOR_BACKUP_DB_URL", "postgresql://127.0.0.1:1/none")
    monkeypatch.setenv("VECTOR_BACKUP_MODE", "auto")
    monkeypatch.setitem(sys.modules, "duckdb", None)

    finding = findings(terminal("check", "--json"), "failed")["VECTOR_BACKUP_MODE"]

    assert "vector-backup-pipeline[incremental]" in finding["advice"]


def dagster(**environment: str) -> Report:
    settings = load_settings(**{name.lower(): value for name, value in environment.items()})
    return Report(check_dagster(settings))


def test_without_an_instance_there_is_no_history() -> None:
    assert dagster()["dagster: instance"].status == "warning"


def test_a_dead_daemon_is_a_warning_if_a_schedule_needs_it(
    dagster_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dagster()["dagster: daemon"].message == "not needed: all schedules are stopped"
    dead = dagster(SCHEDULE_ENABLED="true")["dagster: daemon"]
    monkeypatch.setattr(
        dg.DagsterInstance,
        "get_daemon_statuses",
        lambda _: {"SCHEDULER": SimpleNamespace(healthy=True)},
    )
    alive = dagster(VERIFY_SCHEDULE_ENABLED="true")["dagster: daemon"]

    assert dead.status == "warning"
    assert "daily_backup_schedule" in dead.message
    assert "dagster-daemon run" in str(dead.advice)
    assert (alive.status, alive.message) == ("ok", "running; schedules: weekly_verify_schedule")


def test_an_instance_that_cannot_be_opened_fails(
    dagster_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = "storage:\n  postgres:\n    postgres_ur1: postgresql://u:geheim@h/d\n"
    (dagster_home / "dagster.yaml").write_text(config)

    finding = dagster()["dagster: instance"]

    assert finding.status == "failed"
    assert "cannot be opened" in finding.message
    assert "geheim" not in finding.message
    monkeypatch.setenv("DAGSTER_HOME", "/not/there")
    assert dagster()["dagster: instance"].status == "failed"
