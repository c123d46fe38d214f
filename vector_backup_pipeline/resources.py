"""The database and the state of each run as Dagster resources."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from typing import Any, ClassVar, Generic, TypeVar

import dagster as dg
from dagster._core.events import EngineEventData
from pydantic import Field, PrivateAttr, SecretStr

from vector_backup_pipeline.alerts import run_succeeded
from vector_backup_pipeline.drill_server import embedded_drill_server
from vector_backup_pipeline.engine import errors
from vector_backup_pipeline.engine.backup.run import BackupRun
from vector_backup_pipeline.engine.cancellation import deferred_signals, last_signal
from vector_backup_pipeline.engine.postgres.connection import ConnectionSettings
from vector_backup_pipeline.engine.postgres.drill_database import DrillServer
from vector_backup_pipeline.engine.progress import Progress
from vector_backup_pipeline.engine.restore.run import RestoreRun
from vector_backup_pipeline.engine.results import RunResult
from vector_backup_pipeline.engine.retention.run import PruneRun
from vector_backup_pipeline.engine.runs import EngineRun
from vector_backup_pipeline.engine.secrets import SecretText
from vector_backup_pipeline.engine.verification.run import VerifyRun
from vector_backup_pipeline.operations import BACKUP, ERROR_TAG, PRUNE, RESTORE, VERIFY, Operation
from vector_backup_pipeline.outcome import outcome_metadata
from vector_backup_pipeline.output import log_output
from vector_backup_pipeline.parameters.backup import BackupParameters
from vector_backup_pipeline.parameters.prune import PruneParameters
from vector_backup_pipeline.parameters.restore import RestoreParameters
from vector_backup_pipeline.parameters.verify import VerifyParameters
from vector_backup_pipeline.sealing import is_sealed, open_sealed
from vector_backup_pipeline.settings import DATABASE_URL_VARIABLE, Settings, load_settings

_R = TypeVar("_R", bound=EngineRun[Any])

_log = logging.getLogger(__name__)


class PostgresResource(dg.ConfigurableResource[None]):
    """The database with the vector tables."""

    connection_variable: str = Field(
        default=DATABASE_URL_VARIABLE,
        description="Name of the environment variable with the connection string. It is read when "
        "a run connects, so the string itself is never in Dagster's storage. Without it, libpq's "
        "own environment applies: PGHOST, a service file, .pgpass.",
    )

    def connection_settings(
        self, settings: Settings, db_connection: SecretStr | None
    ) -> ConnectionSettings:
        """Where to connect: to the run's own `db_connection`, plain or as the API sealed it, else
        to the installation's database. Raises `InvalidParams` if the string is malformed."""
        if db_connection is not None:
            text = db_connection.get_secret_value()
            return ConnectionSettings.from_caller(
                open_sealed(text, settings) if is_sealed(text) else SecretText(text)
            )
        url, variable = settings.db_url, settings.connection_variable
        if settings.target is None and self.connection_variable != DATABASE_URL_VARIABLE:
            variable = self.connection_variable
            url = SecretText(os.environ.get(variable, "").strip())
        if url is not None and url.reveal():
            return ConnectionSettings.from_installation(url, variable)
        if settings.target is not None:
            raise errors.InvalidParams(
                f"The environment variable {variable} is not set. It has the connection string of "
                f"the target {settings.target}."
            )
        return ConnectionSettings.from_fields({})


@contextmanager
def restore_test_server(scratch_connection: SecretStr | None) -> Iterator[DrillServer]:
    """A server for a restore test: that of the connection string, else an embedded PostgreSQL in a
    temporary directory, which must have room for the whole set."""
    if scratch_connection is not None:
        text = SecretText(scratch_connection.get_secret_value())
        own = ConnectionSettings.from_caller(text, "scratch_connection")
        yield DrillServer(own, is_throwaway=False)
        return
    with embedded_drill_server() as connection_string:
        text = SecretText(connection_string)
        embedded = ConnectionSettings.from_installation(text, "the embedded server")
        yield DrillServer(embedded, is_throwaway=True)


class ProgressResource(dg.ConfigurableResource[None]):
    """Receives the progress of a run, and ignores it. The terminal has a subclass that shows it.

    A signal to a command at a terminal (`is_terminal`) is a request to cancel its run. Without that
    request in its storage, Dagster takes a canceled run for a crashed one.
    """

    is_terminal: ClassVar[bool] = False

    def table_started(self, table: str) -> None:
        """The export or load of a table begins."""

    def progressed(self, progress: Progress) -> None:
        """A block was written or sent."""

    def announced(self, line: str) -> None:
        """An action that may take long has begun, or has ended."""

    def warned(self, line: str) -> None:
        """Something failed that does not fail the run."""


class RunResource(dg.ConfigurableResource[None], Generic[_R]):
    """The state of one run of `operation`, shared by its steps, which are all in one process.

    It is torn down after success, failure and cancellation alike: then nothing stays open, and a
    result that no step has reported becomes an event of the run.
    """

    operation: ClassVar[Operation]
    progress_resource: ProgressResource

    _run: Any = PrivateAttr(default=None)
    _task_id: str | None = PrivateAttr(default=None)
    _settings: Settings | None = PrivateAttr(default=None)
    _refusal: errors.BackupError | None = PrivateAttr(default=None)
    _is_reported: bool = PrivateAttr(default=False)
    _log_output: ExitStack = PrivateAttr(default_factory=ExitStack)

    @staticmethod
    def make_run(parameters: Any, settings: Settings, run_id: str) -> _R:
        """The run of these parameters."""
        raise NotImplementedError

    @property
    def progress(self) -> ProgressResource:
        # In subclasses, mypy takes the field for one whose config is not read yet.
        return self.progress_resource

    @property
    def settings(self) -> Settings:
        """The settings of the run's target, read once per run."""
        if self._settings is None:
            self._settings = load_settings()
        return self._settings

    def begin(self, context: dg.OpExecutionContext, **chosen: object) -> _R:
        """Make the run from the parameters in the step's config and those `chosen` by the step; it
        is closed when the job ends."""
        try:
            parameters: Any = self.operation.parameters(**context.op_config | chosen)
            self._settings = load_settings(target=parameters.target)
            self._task_id = parameters.task_id
            self._run = self.make_run(parameters, self.settings, context.run_id)
        except Exception as error:
            self._refusal = errors.as_backup_error(error)
            raise
        return self.current

    @property
    def current(self) -> _R:
        """The run that this process has begun."""
        if self._run is None:
            self._refusal = errors.InvalidParams(
                "This step cannot be executed alone: it needs the transactions and locks of its "
                "run, which have ended with that run. Launch the whole job again (in the UI: "
                "re-execute all steps, not from failure)."
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
        if not self.progress.is_terminal:
            self._log_output.enter_context(log_output(sys.__stderr__, logging.INFO))

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        with deferred_signals(), self._log_output:
            if self._run is not None:
                self._run.canceled_by = self._canceled_by(context)
                result, error = self._run.close(), self._run.error
                if isinstance(error, errors.RunCancelled):
                    _log.warning(
                        "The %s was canceled by %s", self.operation.name, self._run.canceled_by
                    )
                self._report_end(context, result, error)
                if error is None:
                    run_succeeded(self.settings, self.operation, result, self._task_id)
            elif self._refusal is not None:
                result = self.operation.result.refused(self._refusal, self._now())
                self._report_end(context, result, self._refusal)
            self._run = None

    def _canceled_by(self, context: dg.InitResourceContext) -> str:
        """Who canceled the run, if it was canceled."""
        signal = last_signal() or "a signal"
        if self.progress.is_terminal:
            return f"{signal} to the command"
        run = (
            context.run and context.instance and context.instance.get_run_by_id(context.run.run_id)
        )
        if run and run.status is dg.DagsterRunStatus.CANCELING:
            return "a request to Dagster (its UI, GraphQL or the REST API)"
        return f"{signal} to the run's process"

    def _report_end(
        self, context: dg.InitResourceContext, result: RunResult, error: errors.BackupError | None
    ) -> None:
        if context.instance is None or context.run is None:
            return
        if error is not None:
            context.instance.add_run_tags(context.run.run_id, {ERROR_TAG: error.error_type})
        if not self._is_reported:
            metadata = outcome_metadata(self.operation, result, error)
            context.instance.report_engine_event(
                "The run's result", context.run, EngineEventData(metadata=metadata)
            )
        if self.progress.is_terminal and isinstance(error, errors.RunCancelled):
            context.instance.report_run_canceling(context.run, "The terminal interrupted the run.")

    def _now(self) -> datetime:
        """Now in the time zone of the settings; in UTC if they are invalid."""
        try:
            return self.settings.timestamps.now()
        except errors.InvalidParams:
            return datetime.now(timezone.utc)


class BackupRunResource(RunResource[BackupRun]):
    """The running backup: its snapshot, files and outcomes."""

    operation = BACKUP

    @staticmethod
    def make_run(parameters: BackupParameters, settings: Settings, run_id: str) -> BackupRun:
        completed, root = parameters.completed(settings.backup_defaults), settings.open_root()
        return BackupRun(completed, root, lock_timeout=settings.lock_timeout, run_id=run_id)


class RestoreRunResource(RunResource[RestoreRun]):
    """The running restore: its set, target and outcomes."""

    operation = RESTORE

    @staticmethod
    def make_run(parameters: RestoreParameters, settings: Settings, run_id: str) -> RestoreRun:
        root, lock_timeout = settings.open_root(), settings.lock_timeout
        return RestoreRun(parameters, root, lock_timeout=lock_timeout, run_id=run_id)


class VerifyRunResource(RunResource[VerifyRun]):
    """The running verification: its sets and their verdicts."""

    operation = VERIFY

    @staticmethod
    def make_run(parameters: VerifyParameters, settings: Settings, run_id: str) -> VerifyRun:
        return VerifyRun(
            parameters,
            settings.open_root(),
            lambda: restore_test_server(parameters.scratch_connection),
            lock_timeout=settings.lock_timeout,
            run_id=run_id,
        )


class PruneRunResource(RunResource[PruneRun]):
    """The running prune: its locations, and what was kept and removed there."""

    operation = PRUNE

    @staticmethod
    def make_run(parameters: PruneParameters, settings: Settings, run_id: str) -> PruneRun:
        return PruneRun(parameters, settings.keep_rules, settings.open_root(), run_id=run_id)


def job_resources(progress: ProgressResource) -> dict[str, object]:
    """The resources of all jobs."""
    return {
        "postgres": PostgresResource(),
        "progress": progress,
        "backup_run": BackupRunResource(progress_resource=progress),
        "restore_run": RestoreRunResource(progress_resource=progress),
        "verify_run": VerifyRunResource(progress_resource=progress),
        "prune_run": PruneRunResource(progress_resource=progress),
    }
