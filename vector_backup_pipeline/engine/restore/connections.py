"""The connections of one restore to its target, and the staging schema that it may commit there."""

import contextlib
from collections.abc import Iterator

import psycopg2
from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.cancellation import uncancellable
from vector_backup_pipeline.engine.catalog.sources import SourceDatabase
from vector_backup_pipeline.engine.errors import (
    BackupError,
    DatabaseError,
    DatabaseRefused,
    ServiceUnavailable,
)
from vector_backup_pipeline.engine.postgres.commit import commit_or_learn
from vector_backup_pipeline.engine.postgres.connection import (
    WORKER_PATIENCE_SECONDS,
    Connection,
    ConnectionSettings,
    close_quietly,
    connect_to_write,
    database_errors,
    end_quietly,
)
from vector_backup_pipeline.engine.postgres.server import identify_server
from vector_backup_pipeline.engine.postgres.session import (
    apply_maintenance_settings,
    apply_session_settings,
    apply_statement_syntax,
    apply_time_limits,
)
from vector_backup_pipeline.engine.postgres.staging import (
    create_staging,
    drop_dead_staging,
    drop_staging,
    hold_staging,
    staging_name,
)
from vector_backup_pipeline.engine.postgres.targets import current_role
from vector_backup_pipeline.parameters.restore import RestoreParameters

_OUTCOME_UNKNOWN = (
    "The connection was lost during COMMIT, and the server could not be asked for the outcome. "
    "Check whether the rows exist before you restore again."
)


class TargetConnections:
    """A coordinator, whose commit makes the restore visible, and workers if there are large new
    tables. Each is always in a transaction, so that its settings apply and no timeout for idle
    sessions ends it.

    Before `commit`, `close` leaves the target unchanged.
    """

    def __init__(
        self,
        settings: ConnectionSettings,
        request: RestoreParameters,
        lock_timeout: float,
        notices: list[str],
    ) -> None:
        """Connect, for now with the connection's own search path. Adds to `notices` throughout the
        restore. Raises `ServiceUnavailable` without a server, `DatabaseError` for a standby."""
        self.settings = settings
        self.workers: list[Connection] = []
        self.notices = notices
        self.is_committed = False
        self._request = request
        self.lock_timeout = lock_timeout
        self._staging_schema: str | None = None
        self.coordinator = connect_to_write(settings)
        try:
            with self.errors("read the target"), self.coordinator.cursor() as cursor:
                apply_time_limits(cursor, lock_timeout)
                self.server = identify_server(cursor)
                self.role = current_role(cursor)
            if self.server.in_recovery:
                raise DatabaseRefused(
                    "The target server is a standby, which is read-only. Connect to its primary."
                )
        except BaseException:
            close_quietly(self.coordinator)
            raise

    @property
    def database(self) -> SourceDatabase:
        return SourceDatabase.of(self.server)

    @property
    def streams(self) -> list[Connection]:
        """The connections that rows go through: the workers, or the coordinator alone."""
        return self.workers or [self.coordinator]

    def errors(self, action: str) -> contextlib.AbstractContextManager[None]:
        return database_errors(action, self.settings.secrets)

    def commit_and_begin(self, connection: Connection) -> None:
        """Commit the transaction of `connection`, and begin the next one."""
        connection.commit()
        self._begin(connection)

    def commit_workers(self) -> None:
        """Commit the workers' transactions; the coordinator's is committed at the end."""
        for worker in self.workers:
            self.commit_and_begin(worker)

    def release_locks_of_workers(self) -> None:
        for worker in self.workers:
            with contextlib.suppress(psycopg2.Error):  # A lost connection; its next use raises.
                worker.rollback()
                self._begin(worker)

    @contextlib.contextmanager
    def building(self) -> Iterator[Cursor]:
        """A cursor that runs the manifest's statements; on a worker their work is committed."""
        with self.streams[0].cursor() as cursor:
            apply_statement_syntax(cursor)
            yield cursor
        self.commit_workers()

    def add_workers(self) -> None:
        """Connect as many workers as the server, or its pooler, has room for."""
        workers = self._request.workers
        for number in range(workers):
            try:
                worker = connect_to_write(self.settings, WORKER_PATIENCE_SECONDS)
            except (DatabaseError, ServiceUnavailable) as error:
                used = f"{number} of {workers} workers" if number else "one connection (0 workers)"
                self.notices.append(f"The rows are loaded over {used}: {error.message}")
                return
            self.workers.append(worker)
            self._begin(worker)

    def end_workers(self) -> None:
        for worker in self.workers:
            end_quietly(worker)
        self.workers = []

    def drop_dead_staging_schemas(self, cursor: Cursor) -> None:
        for name in drop_dead_staging(cursor):
            self.notices.append(f"Dropped {name}, which a killed restore had left behind.")
        self.commit_and_begin(self.coordinator)

    def create_staging_schema(self, cursor: Cursor, run_id: str) -> None:
        """Commit the staging schema, empty, before anything else is created; then keep it from
        other restores. If one of them drops it in between, it is created again with the tables."""
        name = staging_name(run_id)
        create_staging(cursor, name)
        self._staging_schema = name
        self.commit_and_begin(self.coordinator)
        hold_staging(cursor, name)

    def commit(self) -> None:
        """Make everything visible at once. Raises `CommitUnknown` if the outcome can't be
        determined."""
        with self.errors("commit the restore"):
            commit_or_learn(self.coordinator, self.settings, self.server, _OUTCOME_UNKNOWN)
        self.is_committed = True

    def close(self) -> None:
        """End every connection, and drop the staging schema unless it was moved into place."""
        with uncancellable():
            self.end_workers()
            end_quietly(self.coordinator)
            schema, self._staging_schema = self._staging_schema, None
            if schema is not None and not self.is_committed:
                try:
                    with (
                        contextlib.closing(connect_to_write(self.settings)) as connection,
                        self.errors("drop the staging schema"),
                        connection.cursor() as cursor,
                    ):
                        apply_session_settings(cursor, self.lock_timeout)
                        drop_staging(cursor, schema)
                        connection.commit()
                except BackupError as error:
                    self.notices.append(
                        f"The staging schema {schema} may remain in the target ({error.message}). "
                        "The next restore drops it."
                    )

    def _begin(self, connection: Connection) -> None:
        request = self._request
        with connection.cursor() as cursor:
            apply_session_settings(cursor, self.lock_timeout)
            apply_maintenance_settings(
                cursor, request.maintenance_work_mem, request.max_parallel_maintenance_workers
            )
