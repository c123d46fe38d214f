"""`vector-backup init`: a directory for DAGSTER_HOME, ready to use."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.run_coordinator import QueuedRunCoordinator

from vector_backup_pipeline.settings import Settings, load_settings, variable_of
from vector_backup_pipeline_tests.fix_dagster import CHECKOUT
from vector_backup_pipeline_tests.fix_terminal import Terminal


def test_init_writes_the_files_and_creates_the_instances_tables(
    terminal: Terminal, tmp_path: Path
) -> None:
    home = tmp_path / "new" / "home"

    called = terminal("init", str(home))

    assert called.code == 0
    assert "dagster.yaml" in called.out
    assert yaml.safe_load((home / "dagster.yaml").read_text())["run_monitoring"]["enabled"] is True
    databases = list(home.rglob("*.db"))
    assert len(databases) >= 3
    for database in databases:
        with closing(sqlite3.connect(database)) as connection:
            assert connection.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert instance.get_runs_count() == 0
        assert isinstance(instance.run_coordinator, QueuedRunCoordinator)
        assert instance.run_coordinator.dequeue_interval_seconds == 1


def test_init_keeps_files_that_exist(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text("telemetry:\n  enabled: false\n# mine\n")

    called = terminal("init", str(tmp_path))

    assert called.code == 0
    assert f"kept     {tmp_path / 'dagster.yaml'}" in called.out
    assert "# mine" in (tmp_path / "dagster.yaml").read_text()
    assert (tmp_path / "workspace.yaml").exists()


def test_a_directory_that_cannot_be_created_is_named(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    called = terminal("init", str(tmp_path / "file" / "home"))

    assert called.code == 1
    assert called.err.startswith(f"STORAGE_ERROR: Could not set up {tmp_path / 'file' / 'home'}: ")


def test_the_checkouts_workspace_is_the_one_that_init_writes() -> None:
    template = CHECKOUT / "vector_backup_pipeline" / "templates" / "workspace.yaml"
    assert (CHECKOUT / "workspace.yaml").read_text() == template.read_text()


def test_the_example_of_an_env_file_holds_every_setting_with_its_default(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal("init", str(tmp_path))
    text = (tmp_path / ".env.example").read_text()
    settings = re.findall(r"^# (VECTOR_BACKUP_\w+)=(.*)$", text, re.M)
    assert {name for name, _ in settings} == set(map(variable_of, Settings.model_fields))

    (tmp_path / ".env").write_text("\n".join(f"{name}='{value}'" for name, value in settings))
    monkeypatch.chdir(tmp_path)
    assert load_settings().model_dump() == Settings.model_construct().model_dump()
