"""The engine's database and storage as Dagster resources, and what a run's steps share."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime, timezone

import dagster as dg
from dagster._core.events import EngineEventData
from pydantic import Field, JsonValue, PrivateAttr

from vector_backup_pipeline.engine.backup_run import BackupRun
from vector_backup_pipeline.engine.errors import BackupError, InvalidParams, as_backup_error
from vector_backup_pipeline.engine.postgres.connection import ConnectionSettings
from vector_backup_pipeline.engine.progress import Progress
from vector_backup_pipeline.engine.results import BackupResult
from vector_backup_pipeline.engine.secrets import SecretText
from vector_backup_pipeline.engine.storage.contract import BackupRoot
from vector_backup_pipeline.engine.storage.local import LocalRoot
from vector_backup_pipeline.outcome import outcome_metadata, refused_result
from vector_backup_pipeline.settings import DATABASE_URL_VARIABLE, Settings, load_settings

# The UI shows `********` for these, also where somebody wrote a literal into the code.
_SECRET: dict[str, JsonValue] = {"dagster__is_secret": True}


class PostgresResource(dg.ConfigurableResource[None]):
    """Where the vector tables are.

    The first of these that is given decides: `db_connection` (what a caller sent with this run),
    the fields, the string in the variable `connection_variable`, libpq's own environment (`PGHOST`,
    a service file, `.pgpass`).
    """

    db_connection: str | None = Field(
        default=None,
        description="A run's own connection string. It stands alone: nothing is added to it from "
        "the worker's environment.",
        json_schema_extra=_SECRET,
    )
    connection_variable: str = Field(
        default=DATABASE_URL_VARIABLE,
        description="Name of the environment variable with the connection string. Read when a "
        "run connects, so the string itself is never in Dagster's storage.",
    )
    host: str | None = Field(default=None, description="Host, or directory of the socket.")
    port: int | None = Field(default=None, description="Port; libpq's default is 5432.")
    dbname: str | None = Field(default=None, description="Name of the database.")
    user: str | None = Field(default=None, description="Role to connect as.")
    password: str | None = Field(
        default=None,
        description="Best given as EnvVar('NAME').",
        json_schema_extra=_SECRET,
    )

    def connection_settings(self) -> ConnectionSettings:
        """Read where to connect, now.

        Raises:
            InvalidParams: a connection string is malformed; it is not repeated.
        """
        if self.db_connection is not None:
            return ConnectionSettings.from_caller(SecretText(self.db_connection))
        fields = self._fields()
        if fields:
            return ConnectionSettings.from_fields(fields)
        text = os.environ.get(self.connection_variable, "")
        if text.strip():
            return ConnectionSettings.from_installation(SecretText(text), self.connection_variable)
        return ConnectionSettings.from_fields({})

    def _fields(self) -> dict[str, str]:
        given = {
            "host": self.host,
            "port": self.port,
            "dbname": self.dbname,
            "user": self.user,
            "password": self.password,
        }
        return {name: str(value) for name, value in given.items() if value is not None}


class BackupStorageResource(dg.ConfigurableResource[None]):
    """Where the backups go. Without `root`, the environment's settings."""

    root: str | None = Field(
        default=None, description="Root of all backups; VECTOR_BACKUP_ROOT if not given."
    )

    def open_root(self, settings: Settings) -> BackupRoot:
        return LocalRoot(self.root or settings.root, settings.directory)


class ProgressResource(dg.ConfigurableResource[None]):
    """Hears of every block that an export has written. This one is silent; a terminal's draws."""

    def table_started(self, table: str) -> None:
        """An export begins."""

    def progressed(self, progress: Progress) -> None:
        """A block was written."""


class BackupRunResource(dg.ConfigurableResource[None]):
    """The run's shared state: its snapshot, its files, its outcomes.

    All steps of a run are in one process, so one object serves them all. Torn down after success,
    failure and cancellation alike: then nothing stays open, and a result that no step has told is
    reported as an event of the run.
    """

    _run: BackupRun | None = PrivateAttr(default=None)
    _refusal: BackupError | None = PrivateAttr(default=None)
    _told: bool = PrivateAttr(default=False)

    def begin(self, make_run: Callable[[], BackupRun]) -> BackupRun:
        """Make the run and take it in charge, from its first step on."""
        try:
            self._run = make_run()
        except Exception as error:
            self._refusal = as_backup_error(error)
            raise
        return self._run

    @property
    def current(self) -> BackupRun:
        """The run that this process has begun.

        Raises:
            InvalidParams: this step was launched without the steps before it.
        """
        if self._run is None:
            self._refusal = InvalidParams(
                "This step needs the snapshot and the locks of its own run, and those ended with "
                "the run that took them. Launch the whole job again (in the UI: re-execute all "
                "steps, not from failure)."
            )
            raise self._refusal
        return self._run

    def result_is_told(self) -> None:
        """A step has put the result into its own metadata."""
        self._told = True

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        if self._run is not None:
            result = self._run.close()
            self._ended(context, result, self._run.error)
        elif self._refusal is not None:
            self._ended(context, refused_result(self._refusal, _now()), self._refusal)
        self._run = None

    def _ended(
        self, context: dg.InitResourceContext, result: BackupResult, error: BackupError | None
    ) -> None:
        if self._told or context.instance is None or context.run is None:
            return
        context.instance.report_engine_event(
            "The backup's result",
            context.run,
            EngineEventData(metadata=outcome_metadata(result, error)),
        )


def _now() -> datetime:
    """Now in the settings' time zone, as far as the settings can be read."""
    try:
        return load_settings().timestamps.now()
    except InvalidParams:
        return datetime.now(timezone.utc)


def default_resources() -> dict[str, object]:
    """What the jobs need, each with its defaults."""
    return {
        "postgres": PostgresResource(),
        "backup_storage": BackupStorageResource(),
        "backup_run": BackupRunResource(),
        "progress": ProgressResource(),
    }
