"""`vector-backup init`: a directory for DAGSTER_HOME, ready to use."""

import os
import re
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

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
    template = CHECKOUT / "deploy" / "local" / "workspace.yaml"
    assert (CHECKOUT / "workspace.yaml").read_text() == template.read_text()


@pytest.mark.parametrize("deployment", ["systemd", "compose", "kubernetes"])
def test_init_writes_the_files_of_a_deployment(
    deployment: str, terminal: Terminal, tmp_path: Path
) -> None:
    called = terminal("init", str(tmp_path), "--for", deployment)

    assert called.code == 0
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    own = (CHECKOUT / "deploy" / deployment).rglob("*")
    assert {path.name for path in own if path.is_file()} <= {Path(name).name for name in files}
    assert files == set(re.findall(rf"written  {tmp_path}/(\S+)", called.out))
    assert ("dagster.yaml" in files) == (deployment != "kubernetes")
    for name in files:
        if name.endswith(".yaml"):
            assert list(yaml.safe_load_all((tmp_path / name).read_text()))


def test_a_server_has_the_local_configuration_and_its_runs_in_postgresql(
    terminal: Terminal, tmp_path: Path
) -> None:
    configurations = {}
    for deployment in ("local", "systemd", "compose"):
        terminal("init", str(tmp_path / deployment), "--for", deployment)
        text = (tmp_path / deployment / "dagster.yaml").read_text()
        configurations[deployment] = yaml.safe_load(text)

    url = {"postgres_url": {"env": "DAGSTER_POSTGRES_URL"}}
    with_storage = configurations["local"] | {"storage": {"postgres": url}}
    assert configurations["systemd"] == configurations["compose"] == with_storage


def test_the_values_of_the_chart_configure_dagster_as_elsewhere() -> None:
    local = yaml.safe_load((CHECKOUT / "deploy" / "dagster.yaml").read_text())
    values = yaml.safe_load((CHECKOUT / "deploy" / "kubernetes" / "values.yaml").read_text())

    daemon = _snake_case(values["dagsterDaemon"])
    queue = daemon["run_coordinator"]["config"]["queued_run_coordinator"]
    limits = {key: queue.pop(key) for key in ("max_concurrent_runs", "tag_concurrency_limits")}
    # Dagster takes this key as it is.
    limits["tag_concurrency_limits"][0]["value"] = {"applyLimitPerUniqueValue": True}
    # What the chart has no value for.
    del local["run_queue"]["max_user_code_failure_retries"]
    del local["run_queue"]["user_code_failure_retry_delay"]
    del local["run_monitoring"]["max_runtime_seconds"]
    assert (limits, queue) == (local["concurrency"]["runs"], local["run_queue"])
    assert daemon["run_monitoring"] == local["run_monitoring"]
    own = values["additionalInstanceConfig"]
    assert own == {key: local[key] for key in ("run_retries", "nux")}
    retention = _snake_case(values["retention"])
    assert retention.pop("enabled") and retention == local["retention"]
    assert _snake_case(values["pythonLogs"]) == local["python_logs"]
    assert values["telemetry"] == local["telemetry"]


def _snake_case(values: Any) -> Any:
    """The values with keys in Dagster's own spelling."""
    if isinstance(values, list):
        return [_snake_case(value) for value in values]
    if not isinstance(values, dict):
        return values
    return {
        re.sub("([A-Z])", lambda letter: "_" + letter[1].lower(), key): _snake_case(value)
        for key, value in values.items()
    }


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is missing")
def test_the_units_are_valid_and_hardened() -> None:
    units = CHECKOUT / "deploy" / "systemd"
    # The colon at the end adds systemd's own directories.
    environment = dict(os.environ) | {"SYSTEMD_UNIT_PATH": f"{units}:"}
    services = sorted(map(str, units.glob("*.service")))

    for command in (["verify"], ["security", "--offline=true", "--threshold=20"]):
        done = subprocess.run(
            ["systemd-analyze", *command, *services],
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Unknown" not in done.stderr


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
