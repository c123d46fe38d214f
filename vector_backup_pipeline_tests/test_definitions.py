"""What Dagster loads, and how it finds it."""

import os
import subprocess
import sys
from datetime import timedelta

import dagster as dg
import pytest
import yaml

from vector_backup_pipeline.definitions import defs
from vector_backup_pipeline.parameters.backup import BackupParameters
from vector_backup_pipeline_tests.fix_backup import LANGCHAIN
from vector_backup_pipeline_tests.fix_dagster import CHECKOUT


def test_the_definitions_can_be_loaded() -> None:
    dg.Definitions.validate_loadable(defs)
    specs = {tuple(spec.key.path): spec for spec in defs.resolve_all_asset_specs()}
    assert specs.keys() == {
        (group, table) for group in ("postgresql", "vector_backup") for table in LANGCHAIN
    }
    for table in LANGCHAIN:
        backups = specs["vector_backup", table]
        assert [dep.asset_key.path for dep in backups.deps] == [["postgresql", table]]
        policy = dg.FreshnessPolicy.time_window(timedelta(hours=26))
        assert backups.freshness_policy == policy


def test_the_backup_job_has_its_steps_and_parameters_with_descriptions() -> None:
    job = defs.resolve_job_def("vector_backup_job")
    config = job.run_config_schema.config_type
    assert isinstance(config, dg.Shape)

    assert {node.name for node in job.nodes} == {
        "resolve_backup_directory",
        "pin_snapshot",
        "export_table",
        "truncate_embedding_table",
        "write_backup_log",
    }
    assert job.description
    assert all(node.definition.description for node in job.nodes)
    assert config.fields.keys() == BackupParameters.model_fields.keys()
    assert all(field.description for field in config.fields.values())
    assert str(config.fields["mode"].description).endswith(
        " Default: VECTOR_BACKUP_MODE, else full."
    )
    assert not any(field.is_required for field in config.fields.values())


def test_workspace_and_pyproject_name_the_same_location() -> None:
    (location,) = yaml.safe_load((CHECKOUT / "workspace.yaml").read_text())["load_from"]
    module = location["python_module"]
    pyproject = (CHECKOUT / "pyproject.toml").read_text()

    assert f'module_name = "{module["module_name"]}"' in pyproject
    assert f'code_location_name = "{module["location_name"]}"' in pyproject


def test_an_invalid_setting_fails_the_load_with_a_line_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VECTOR_BACKUP_CRON", "every day")

    done = subprocess.run(
        [sys.executable, "-m", "vector_backup_pipeline.definitions"],
        cwd=CHECKOUT,
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.returncode == 1
    assert "SettingsError: VECTOR_BACKUP_CRON: " in done.stderr.splitlines()[-1]
