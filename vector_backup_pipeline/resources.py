"""The engine's database and storage as Dagster resources, and what a run's steps share."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import dagster as dg
from dagster._core.events import EngineEventData
from pydantic import Field, JsonValue, PrivateAttr, SecretStr

from vector_backup_pipeline.drill_server import embedded_drill_server
from vector_backup_pipeline.engine.backup.run import BackupRun
from vector_backup_pipeline.engine.cancellation import deferred_signals, last_signal
from vector_backup_pipeline.engine.errors import (
    BackupError,
    InvalidParams,
    RunCancelled,
    as_backup_error,
)
from vector_backup_pipeline.engine.postgres.connection import ConnectionSettings
from vector_backup_pipeline.engine.postgres.drill_database import DrillServer
from vector_backup_pipeline.engine.progress import Progress
from vector_backup_pipeline.engine.restore.run import RestoreRun
from vector_backup_pipeline.engine.results import RunResult
from vector_backup_pipeline.engine.retention.run import PruneRun
from vector_backup_pipeline.engine.secrets import SecretText
from vector_backup_pipeline.engine.storage.contract import BackupRoot
from vector_backup_pipeline.engine.storage.opening import open_root
from vector_backup_pipeline.engine.verification.run import VerifyRun
from vector_backup_pipeline.operations import BACKUP, PRUNE, RESTORE, VERIFY, Operation
from vector_backup_pipeline.outcome import outcome_metadata
from vector_backup_pipeline.output import log_output
from vector_backup_pipeline.sealing import is_sealed, open_sealed
from vector_backup_pipeline.settings import DATABASE_URL_VARIABLE, Settings, load_settings

_R = TypeVar("_R", bound="_Run")

_log = logging.getLogger(__name__)

# The UI shows `********` for these, also where somebody wrote a literal into the code.
_SECRET: dict[str, JsonValue] = {"dagster__is_secret": True}


def check_connection(key: str, connection: SecretStr | None) -> None:
    """Raise `InvalidParams` if the connection string in `key` is malformed."""
    if connection is not None:
        ConnectionSettings.from_caller(SecretText(connection.get_secret_value()), key)


class PostgresResource(dg.ConfigurableResource[None]):
    """Where the vector tables are.

    The first of these that is given decides: `db_connection` (what a caller sent with this run),
    the fields, the string in the variable `connection_variable`, libpq's own environment (`PGHOST`,
    a service file, `.pgpass`).
    """

    db_connection: str | None = Field(
        default=None,
        description="A run's own connection string, plain or as the API sealed it. It stands "
        "alone: nothing is added to it from the worker's environment.",
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

    def connection_settings(self, settings: Settings) -> ConnectionSettings:
        """Where to connect.

        Raises:
            InvalidParams: a connection string is malformed, or can't be opened; it is not repeated.
        """
        if self.db_connection is not None:
            text = self.db_connection
            sealed = is_sealed(text)
            return ConnectionSettings.from_caller(
                open_sealed(text, settings) if sealed else SecretText(text)
            )
        fields = self._fields()
        if fields:
            return ConnectionSettings.from_fields(fields)
        if self.connection_variable == DATABASE_URL_VARIABLE:
            url = settings.db_url
        else:
            text = os.environ.get(self.connection_variable, "").strip()
            url = SecretText(text) if text else None
        if url is None:
            return ConnectionSettings.from_fields({})
        return ConnectionSettings.from_installation(url, self.connection_variable)

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
        default=None,
        description="Root of all backups, a path or a URL such as s3://bucket/prefix; "
        "VECTOR_BACKUP_ROOT if not given.",
    )

    def open_root(self, settings: Settings) -> BackupRoot:
        return open_root(
            self.root or settings.root,
            settings.directory,
            part_size=settings.part_bytes,
            manifest_key=settings.manifest_key,
        )


class DrillServerResource(dg.ConfigurableResource[None]):
    """A server to drill on: the one of `scratch_connection`, else an embedded PostgreSQL in a
    temporary folder, which has to hold the whole set for as long as the drill takes."""

    scratch_connection: str | None = Field(
        default=None,
        description="Connection string of a server where the role may create databases.",
        json_schema_extra=_SECRET,
    )

    @contextmanager
    def open(self) -> Iterator[DrillServer]:
        """A server, for the time of a drill.

        Raises:
            InvalidParams: the connection string is malformed, or nothing is there to drill on.
            StorageError, EmbeddedServerError: the embedded one can't be made.
        """
        if self.scratch_connection is not None:
            given = ConnectionSettings.from_caller(
                SecretText(self.scratch_connection), "scratch_connection"
            )
            yield DrillServer(given, is_throwaway=False)
            return
        with embedded_drill_server() as connection_string:
            text = SecretText(connection_string)
            own = ConnectionSettings.from_installation(text, "the embedded server")
            yield DrillServer(own, is_throwaway=True)


class ProgressResource(dg.ConfigurableResource[None]):
    """Hears of every block that went through. This one is silent; a terminal's draws."""

    def table_started(self, table: str) -> None:
        """A table's export or load begins."""

    def progressed(self, progress: Progress) -> None:
        """A block was written or sent."""

    def said(self, line: str) -> None:
        """Something that takes its time has begun."""


class _Run(Protocol):
    """What the steps of a run share: it can be closed at any time, and then tells its result."""

    canceled_by: str | None

    @property
    def error(self) -> BackupError | None: ...

    def close(self) -> RunResult: ...


class RunResource(dg.ConfigurableResource[None], Generic[_R]):
    """The state of one run of `operation`, from its first step to its end.

    All steps of a run are in one process, so one object serves them all. Torn down after success,
    failure and cancellation alike: then nothing stays open, and a result that no step has reported
    becomes an event of the run.
    """

    operation: ClassVar[Operation]

    is_of_terminal: bool = Field(
        default=False,
        description="Whether the run belongs to a command at a terminal, to which a signal is the "
        "request to end it. Without that request in its storage, Dagster takes the run for one "
        "that crashed.",
    )

    _run: Any = PrivateAttr(default=None)
    _settings: Settings | None = PrivateAttr(default=None)
    _refusal: BackupError | None = PrivateAttr(default=None)
    _is_reported: bool = PrivateAttr(default=False)
    _log_output: ExitStack = PrivateAttr(default_factory=ExitStack)

    @property
    def settings(self) -> Settings:
        """The settings, read once per run.

        Raises:
            SettingsError: a value is invalid.
        """
        if self._settings is None:
            self._settings = load_settings()
        return self._settings

    def begin(self, make_run: Callable[[Settings], _R]) -> _R:
        """Make the run, and close it when the job ends."""
        try:
            run = make_run(self.settings)
        except Exception as error:
            self._refusal = as_backup_error(error)
            raise
        self._run = run
        return run

    @property
    def current(self) -> _R:
        """The run that this process has begun.

        Raises:
            InvalidParams: this step was launched without the steps before it.
        """
        if self._run is None:
            self._refusal = InvalidParams(
                "This step needs the transactions and the locks of its own run, and those ended "
                "with the run that took them. Launch the whole job again (in the UI: re-execute "
                "all steps, not from failure)."
            )
            raise self._refusal
        run: _R = self._run
        return run

    def report(self, result: RunResult) -> dict[str, dg.MetadataValue]:
        """The metadata by which a step reports the result."""
        self._is_reported = True
        return outcome_metadata(self.operation, result, self._run.error)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:  # noqa: ARG002 - Dagster's
        # While a step runs, Dagster redirects this stream to the step's compute log. The log of a
        # command goes to its terminal.
        if not self.is_of_terminal:
            self._log_output.enter_context(log_output(sys.__stderr__, logging.INFO))

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        with deferred_signals(), self._log_output:
            if self._run is not None:
                self._run.canceled_by = self._canceller(context)
                result = self._run.close()
                if isinstance(self._run.error, RunCancelled):
                    _log.warning(
                        "The %s was canceled by %s", self.operation.name, self._run.canceled_by
                    )
                self._end(context, result, self._run.error)
            elif self._refusal is not None:
                result = self.operation.result.refused(self._refusal, self._now())
                self._end(context, result, self._refusal)
            self._run = None

    def _canceller(self, context: dg.InitResourceContext) -> str:
        """Who canceled the run, if somebody did."""
        signal = last_signal() or "a signal"
        if self.is_of_terminal:
            return f"{signal} to the command"
        run = (
            context.run and context.instance and context.instance.get_run_by_id(context.run.run_id)
        )
        if run and run.status is dg.DagsterRunStatus.CANCELING:
            return "a request to Dagster (its UI, GraphQL or the REST API)"
        return f"{signal} to the run's process"

    def _end(
        self, context: dg.InitResourceContext, result: RunResult, error: BackupError | None
    ) -> None:
        if context.instance is None or context.run is None:
            return
        if not self._is_reported:
            metadata = outcome_metadata(self.operation, result, error)
            context.instance.report_engine_event(
                "The run's result", context.run, EngineEventData(metadata=metadata)
            )
        if self.is_of_terminal and isinstance(error, RunCancelled):
            context.instance.report_run_canceling(context.run, "The terminal interrupted the run.")

    def _now(self) -> datetime:
        """Now in the settings' time zone, as far as the settings can be read."""
        try:
            return self.settings.timestamps.now()
        except InvalidParams:
            return datetime.now(timezone.utc)


class BackupRunResource(RunResource[BackupRun]):
    """The running backup: its snapshot, files and outcomes."""

    operation = BACKUP


class RestoreRunResource(RunResource[RestoreRun]):
    """The running restore: its set, target and outcomes."""

    operation = RESTORE


class VerifyRunResource(RunResource[VerifyRun]):
    """The running verification: its sets and their verdicts."""

    operation = VERIFY


class PruneRunResource(RunResource[PruneRun]):
    """The running prune: its locations, and what was kept and removed there."""

    operation = PRUNE


def run_resources(*, is_of_terminal: bool = False) -> dict[str, object]:
    """The resource of each operation's run."""
    kinds = (BackupRunResource, RestoreRunResource, VerifyRunResource, PruneRunResource)
    return {k.operation.resource_key: k(is_of_terminal=is_of_terminal) for k in kinds}


def default_resources() -> dict[str, object]:
    """The resources of all jobs, with their defaults."""
    return {
        "postgres": PostgresResource(),
        "backup_storage": BackupStorageResource(),
        "drill_server": DrillServerResource(),
        "progress": ProgressResource(),
        **run_resources(),
    }
