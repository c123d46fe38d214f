"""What Dagster loads, and how it finds it."""

from datetime import timedelta
from typing import Any

import dagster as dg
import yaml

from vector_backup_pipeline.definitions import defs
from vector_backup_pipeline.parameters.backup import BackupParameters
from vector_backup_pipeline.request_files import make_request_file_sensor
from vector_backup_pipeline.sensors import make_alert_sensors, make_task_directory_sensor
from vector_backup_pipeline.settings import load_settings
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


def test_sensors_are_off_by_default_and_run_as_the_settings_say() -> None:
    def statuses(**settings: Any) -> set[str]:
        loaded = load_settings(**settings)
        made = [make_task_directory_sensor(loaded), make_request_file_sensor(loaded)]
        return {sensor.default_status.value for sensor in (*made, *make_alert_sensors(loaded))}

    assert statuses() == {"STOPPED"}
    assert statuses(
        sensor_enabled=True, requests_enabled=True, alert_urls="json://alerts.example"
    ) == {"RUNNING"}
