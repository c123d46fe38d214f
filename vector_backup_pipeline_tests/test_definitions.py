"""What Dagster loads, and how it finds it."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
import yaml

from vector_backup_pipeline.definitions import defs
from vector_backup_pipeline_tests.fix_backup import LANGCHAIN
from vector_backup_pipeline_tests.fix_dagster import CHECKOUT


def test_everything_that_is_wired_can_be_loaded() -> None:
    dg.Definitions.validate_loadable(defs)


def test_the_graph_has_the_steps_of_the_contract_each_with_words_for_the_ui() -> None:
    job = defs.resolve_job_def("vector_backup_job")

    assert {node.name for node in job.nodes} == {
        "resolve_backup_directory",
        "pin_snapshot",
        "export_table",
        "truncate_embedding_table",
        "write_backup_log",
    }
    assert job.description
    assert all(node.definition.description for node in job.nodes)


def test_every_key_of_the_config_is_explained() -> None:
    config = defs.resolve_job_def("vector_backup_job").run_config_schema.config_type
    assert isinstance(config, dg.Shape)

    assert {"task_id", "db_connection", "tables"} <= config.fields.keys()
    assert all(field.description for field in config.fields.values())
    assert not any(field.is_required for field in config.fields.values())


def test_each_table_of_the_settings_is_an_asset() -> None:
    keys = {spec.key for spec in defs.resolve_all_asset_specs()}

    assert keys == {dg.AssetKey(["vector_backup", table]) for table in LANGCHAIN}


def test_workspace_and_pyproject_name_the_same_location() -> None:
    (location,) = yaml.safe_load((CHECKOUT / "workspace.yaml").read_text())["load_from"]
    module = location["python_module"]
    pyproject = (CHECKOUT / "pyproject.toml").read_text()

    assert f'module_name = "{module["module_name"]}"' in pyproject
    assert f'code_location_name = "{module["location_name"]}"' in pyproject


@pytest.mark.parametrize("arguments", [[], ["--workspace", "workspace.yaml"]], ids=str)
def test_dagster_itself_validates_the_location(arguments: list[str], dagster_home: Path) -> None:
    done = _load("dagster", "definitions", "validate", *arguments)

    assert done.returncode == 0, done.stderr
    assert "All code locations passed validation" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("VECTOR_BACKUP_CRON", "every day"),
        ("VECTOR_BACKUP_TIMEZONE", "Mars/Olympus"),
        ("VECTOR_BACKUP_TABLES", "a,a"),
    ],
)
def test_a_location_that_can_not_load_ends_in_a_line_that_names_the_variable(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)

    done = _load("vector_backup_pipeline.definitions")

    assert done.returncode == 1
    assert f"SettingsError: {variable}: " in done.stderr.splitlines()[-1]


def _load(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=CHECKOUT,
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
