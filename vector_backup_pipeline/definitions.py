"""Everything that Dagster loads."""

import dagster as dg

from vector_backup_pipeline.assets import table_asset_specs
from vector_backup_pipeline.jobs import JOBS
from vector_backup_pipeline.jobs.verify import latest_backup_checks
from vector_backup_pipeline.request_files import make_request_file_sensor
from vector_backup_pipeline.resources import job_resources
from vector_backup_pipeline.schedules import schedules_of
from vector_backup_pipeline.sensors import make_alert_sensors, make_task_directory_sensor
from vector_backup_pipeline.settings import load_settings

_settings = load_settings()

defs = dg.Definitions(
    assets=table_asset_specs(_settings.tables),
    asset_checks=[latest_backup_checks(_settings.tables)],
    jobs=list(JOBS.values()),
    schedules=[schedule.define(owner) for schedule, owner in schedules_of(_settings)],
    sensors=[
        make_task_directory_sensor(_settings),
        make_request_file_sensor(_settings),
        *make_alert_sensors(_settings),
    ],
    resources=job_resources(),
)
