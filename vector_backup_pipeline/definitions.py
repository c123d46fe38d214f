"""Everything that Dagster loads."""

import dagster as dg

from vector_backup_pipeline.assets import source_asset_specs, table_asset_specs
from vector_backup_pipeline.jobs import JOBS
from vector_backup_pipeline.jobs.backup_assets import backup_assets
from vector_backup_pipeline.jobs.verify import latest_backup_checks
from vector_backup_pipeline.request_files import make_request_file_sensor
from vector_backup_pipeline.resources import ProgressResource, job_resources
from vector_backup_pipeline.schedules import schedules_of
from vector_backup_pipeline.sensors import make_alert_sensors, make_task_directory_sensor
from vector_backup_pipeline.settings import load_settings

_settings = load_settings()
_fleet = _settings.with_targets()

defs = dg.Definitions(
    assets=[
        *(spec for settings in _fleet for spec in source_asset_specs(settings)),
        backup_assets(_settings),
        # 500 targets have 1000 tables. The button would double the time that they take to load.
        *(spec for settings in _fleet[1:] for spec in table_asset_specs(settings)),
    ],
    asset_checks=[latest_backup_checks(_fleet)],
    jobs=list(JOBS.values()),
    schedules=[schedule.define(owner) for schedule, owner in schedules_of(_settings)],
    sensors=[
        make_task_directory_sensor(_settings),
        make_request_file_sensor(_settings),
        *make_alert_sensors(_settings),
    ],
    resources=job_resources(ProgressResource()),
    # Of the assets' own runs, which need no process per step.
    executor=dg.in_process_executor,
)
