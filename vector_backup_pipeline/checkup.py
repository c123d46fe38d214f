"""The whole check of an installation: its environment, the engine's part, Dagster."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone

from vector_backup_pipeline.dagster_check import check_dagster, longest_pause
from vector_backup_pipeline.engine.checkup import CheckPlan, Finding, check_configuration
from vector_backup_pipeline.engine.checkup.finding import failed_with, ok
from vector_backup_pipeline.engine.errors import BackupError, InvalidParams
from vector_backup_pipeline.engine.postgres.connection import ConnectionSettings
from vector_backup_pipeline.engine.storage.contract import BackupRoot
from vector_backup_pipeline.environment_check import ReadEnvironment, read_environment
from vector_backup_pipeline.parameters.backup import CheckParameters
from vector_backup_pipeline.resources import BackupStorageResource, PostgresResource
from vector_backup_pipeline.settings import DATABASE_URL_VARIABLE, Settings


def check_installation(parameters: CheckParameters) -> Iterator[Finding]:
    """What was found, as it is found.

    Raises:
        InvalidParams: the connection string is malformed; before anything is tried.
    """
    environment = read_environment()
    given = None
    if parameters.db_connection is not None:
        text = parameters.db_connection.get_secret_value()
        given = PostgresResource(db_connection=text).connection_settings(environment.settings)
    return _findings(environment, parameters, given)


def _findings(
    environment: ReadEnvironment,
    parameters: CheckParameters,
    given: ConnectionSettings | None,
) -> Iterator[Finding]:
    yield from environment.findings
    settings = environment.settings
    connection, told = (given, None) if given is not None else _own_connection(settings)
    if told is not None:
        yield told
    root, told = _root(environment)
    if told is not None:
        yield told
    now = datetime.now(timezone.utc)
    own_tables = settings.tables if environment.makes_sense("tables") else None
    yield from check_configuration(
        CheckPlan(
            connection=connection,
            root=root,
            timestamps=settings.timestamps
            if environment.makes_sense("timezone", "timestamp_format")
            else None,
            task_id=parameters.task_id,
            tables=parameters.tables or own_tables,
            truncate_tables=settings.truncate_tables
            if environment.makes_sense("truncate_tables")
            else (),
            workers=parameters.workers,
            export_method=parameters.export_method,
            lock_timeout=settings.lock_timeout,
            # The daily schedule makes no backups of tasks.
            expected_every=longest_pause(settings, now) if parameters.task_id is None else None,
        )
    )
    schedule = settings if environment.makes_sense("cron", "timezone") else None
    yield from check_dagster(schedule, now)


def _own_connection(settings: Settings) -> tuple[ConnectionSettings | None, Finding | None]:
    name = DATABASE_URL_VARIABLE
    try:
        connection = PostgresResource().connection_settings(settings)
    except InvalidParams as error:
        return None, failed_with("settings", name, error)
    if connection.parameters:
        return connection, None
    return connection, ok("settings", name, "is not set: PG* variables and libpq decide")


def _root(environment: ReadEnvironment) -> tuple[BackupRoot | None, Finding | None]:
    if not environment.makes_sense("root", "directory"):
        return None, None
    try:
        return BackupStorageResource().open_root(environment.settings), None
    except BackupError as error:
        return None, failed_with("settings", "VECTOR_BACKUP_ROOT", error)
