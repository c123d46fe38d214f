"""The whole check of an installation: its environment, the engine's part, Dagster."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone

from vector_backup_pipeline.dagster_check import check_dagster, longest_pause
from vector_backup_pipeline.engine.checkup import CheckPlan, Finding, check_configuration
from vector_backup_pipeline.engine.checkup.finding import failed_with, ok
from vector_backup_pipeline.engine.errors import BackupError, InvalidParams
from vector_backup_pipeline.engine.parameters import BackupRequest
from vector_backup_pipeline.engine.postgres.connection import ConnectionSettings
from vector_backup_pipeline.engine.storage.contract import BackupRoot
from vector_backup_pipeline.environment_check import ReadEnvironment, read_environment
from vector_backup_pipeline.jobs.backup import VectorBackupConfig
from vector_backup_pipeline.resources import BackupStorageResource, PostgresResource
from vector_backup_pipeline.settings import DATABASE_URL_VARIABLE, Settings


@dataclass(frozen=True)
class CheckCall:
    """The backup that is to be checked; None takes the settings' own."""

    task_id: str | None
    tables: list[str] | None
    workers: int
    export_method: str
    db_connection: str | None


def check_installation(call: CheckCall) -> Iterator[Finding]:
    """What was found, as it is found.

    Raises:
        InvalidParams: the call makes no sense; before anything is tried.
    """
    environment = read_environment()
    request = VectorBackupConfig(
        task_id=call.task_id,
        tables=call.tables,
        workers=call.workers,
        export_method=call.export_method,
    ).request(environment.settings)
    given = None
    if call.db_connection is not None:
        given = PostgresResource(db_connection=call.db_connection).connection_settings()
    return _findings(environment, request, call, given)


def _findings(
    environment: ReadEnvironment,
    request: BackupRequest,
    call: CheckCall,
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
    yield from check_configuration(
        CheckPlan(
            connection=connection,
            root=root,
            timestamps=settings.timestamps
            if environment.makes_sense("timezone", "timestamp_format")
            else None,
            task_id=request.task_id,
            tables=request.tables if call.tables or environment.makes_sense("tables") else None,
            truncate_tables=settings.truncate_tables
            if environment.makes_sense("truncate_tables")
            else (),
            workers=request.workers,
            export_method=request.export_method,
            lock_timeout=settings.lock_timeout,
            # The daily schedule makes no backups of tasks.
            expected_every=longest_pause(settings, now) if request.task_id is None else None,
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
