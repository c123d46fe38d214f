"""All that Dagster loads, wired in one place."""

from __future__ import annotations

import dagster as dg

from vector_backup_pipeline.asset_checks import make_table_checks
from vector_backup_pipeline.assets import table_asset_specs
from vector_backup_pipeline.jobs.index import JOBS
from vector_backup_pipeline.resources import default_resources
from vector_backup_pipeline.schedules import SCHEDULES
from vector_backup_pipeline.sensors import make_task_directory_sensor
from vector_backup_pipeline.settings import load_settings

_settings = load_settings()

defs = dg.Definitions(
    assets=table_asset_specs(_settings.tables),
    asset_checks=[make_table_checks(_settings.tables)],
    jobs=list(JOBS.values()),
    schedules=[schedule.define(_settings) for schedule in SCHEDULES],
    sensors=[make_task_directory_sensor(_settings)],
    resources=default_resources(),
)
