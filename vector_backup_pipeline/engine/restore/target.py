"""The target of one restore: its connections, and what happens on them in which order.

    plan ─▶ begin ─▶ load (each table) ─▶ build ─▶ prove (each table) ─▶ publish (commits)

There are two ways, with the same steps:

- One transaction: locks, truncation, new tables, rows, indexes and proof are one transaction of
  one connection. So it is whenever a table of the target exists.
- Where everything is new and large: several connections load into a scratch schema and commit
  there, under the eyes of nobody; the coordinator's transaction, open from before, moves all of it
  into place at the end.

Until `publish` has committed, `close` leaves the target as it was.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import psycopg2
from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.cancellation import uncancellable
from vector_backup_pipeline.engine.errors import (
    BackupError,
    DatabaseError,
    DatabaseRefused,
    PermissionDenied,
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
from vector_backup_pipeline.engine.postgres.index_memory import hnsw_memory_notice
from vector_backup_pipeline.engine.postgres.recreation import NewTable, Recreation
from vector_backup_pipeline.engine.postgres.scratch import (
    create_scratch,
    drop_dead_scratch,
    drop_scratch,
    hold_scratch,
    may_create_schema,
    scratch_name,
)
from vector_backup_pipeline.engine.postgres.server import ServerIdentity, identify_server
from vector_backup_pipeline.engine.postgres.session import (
    apply_maintenance_settings,
    apply_session_settings,
    apply_statement_syntax,
    apply_time_limits,
    check_deferred_constraints,
    own_search_path,
)
from vector_backup_pipeline.engine.postgres.targets import current_role, table_identity
from vector_backup_pipeline.engine.restore.existing import ExistingTables
from vector_backup_pipeline.engine.restore.plan import PlannedTable
from vector_backup_pipeline.engine.restore.proof import Content, content_of
from vector_backup_pipeline.engine.table_definition import Dependencies, Index
from vector_backup_pipeline.parameters.restore import RestoreParameters

# Below this a second connection costs more than it brings: two blocks of a stored file's index.
_WORTH_CONNECTIONS = 16 << 20

_IF_UNKNOWN = (
    "The connection was lost while the restore was being committed, and the server could not be "
    "asked how it ended. Look whether the rows are there before you restore again."
)

IndexListener = Callable[[str], None]
_T = TypeVar("_T")


@dataclass
class Target:
    """`notices` collects what a person should know and no error is."""

    settings: ConnectionSettings
    request: RestoreParameters
    lock_timeout: float
    run_id: str
    notices: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._coordinator: Connection | None = None
        self._workers: list[Connection] = []
        self._server: ServerIdentity | None = None
        self._role = ""
        self._recreation: Recreation | None = None
        self._new: dict[str, NewTable] = {}
        # The scratch schema, which is committed, and so has to be dropped if nothing comes of it.
        self._scratch: str | None = None
        self._uses_scratch = False
        self._loaded: dict[str, int] = {}
        self.existing = ExistingTables(self.request, {})
        self.planned: list[PlannedTable] = []
        self.is_published = False

    @property
    def streams(self) -> list[Connection]:
        """The connections that rows go through: the workers, or the coordinator alone."""
        return self._workers or [self._open_coordinator]

    @property
    def server(self) -> ServerIdentity | None:
        """None before it was reached."""
        return self._server

    @property
    def description(self) -> str | None:
        if self._server is None:
            return None
        return f"database {self._server.database}, PostgreSQL {self._server.version}"

    def plan(self, make_plan: Callable[[Cursor], list[PlannedTable]]) -> None:
        """Connect, and let `make_plan` look at the target as the connection finds it."""
        self._coordinator = connect_to_write(self.settings)

        connection = self._open_coordinator
        with self._errors("look at the target"), connection.cursor() as cursor:
            # No more than that: the connection's own search path still leads bare names.
            apply_time_limits(cursor, self.lock_timeout)
            self._server = identify_server(cursor)
            if self._server.in_recovery:
                raise DatabaseRefused(
                    "The target server is a standby, which takes no rows. Connect to its primary."
                )
            self._role = current_role(cursor)
            self.planned = make_plan(cursor)
            self.existing = ExistingTables.of(self.planned, self.request)
            self.existing.decide(cursor)
            self.notices += self.existing.lost_foreign_keys()
            self._keep(connection)

    def begin(self, dependencies: Dependencies | None) -> None:
        """Lock, empty and make the tables, as asked; from here on the target is ours to put back.

        Raises:
            LockTimeout: somebody holds a table.
            DatabaseRefused, InvalidParams, PermissionDenied: the target can't take it.
        """
        with self._errors("prepare the target"), self._open_coordinator.cursor() as cursor:
            self._drop_dead_scratch(cursor)
            self._prepare_recreation(cursor, dependencies)
            if self._uses_scratch:
                self._make_scratch(cursor)
            if self._recreation is not None and self._workers:
                with self._building() as building:
                    self._recreation.create(building)
            else:
                self._begin_in_place(cursor)

    def _drop_dead_scratch(self, cursor: Cursor) -> None:
        for name in drop_dead_scratch(cursor):
            self.notices.append(f"Dropped {name}, which a restore that died had left.")
        self._keep(self._open_coordinator)

    def _prepare_recreation(self, cursor: Cursor, dependencies: Dependencies | None) -> None:
        """Decide where new tables are created: a rename needs the scratch schema in any case."""
        new = [table for table in self.planned if table.existing is None]
        if not new or dependencies is None:
            return
        self._new = {
            table.table: NewTable(table.stored.definition, table.schema, table.name)
            for table in new
            if table.stored.definition is not None
        }
        is_renamed = any(table.is_renamed for table in new)
        scratch = scratch_name(self.run_id)
        recreation = self._make_recreation(dependencies, scratch)
        recreation.check(cursor)
        if is_renamed and not may_create_schema(cursor):
            raise PermissionDenied(
                "A table that is created under another name is first created in a schema of "
                f"its own, and the role {self._role} may not make one. GRANT CREATE ON DATABASE to "
                "it, restore into a table of that name that exists, or restore without rename."
            )
        is_worth_workers = self._worth_workers(cursor)
        if is_worth_workers and self._can_be_parallel(cursor, recreation):
            self._add_workers()
        self._uses_scratch = is_worth_workers or is_renamed
        if not self._uses_scratch:
            recreation = self._make_recreation(dependencies, None)
        self._recreation = recreation

    def _worth_workers(self, cursor: Cursor) -> bool:
        return (
            len(self._new) == len(self.planned)
            and self.request.workers > 1
            and not any(table.holds_names for table in self.planned)
            and sum(table.stored.size for table in self.planned) >= _WORTH_CONNECTIONS
            and may_create_schema(cursor)
        )

    def _can_be_parallel(self, cursor: Cursor, recreation: Recreation) -> bool:
        if extensions := recreation.missing_extensions(cursor):
            self.notices.append(
                f"The rows are loaded over one connection, because the same transaction creates "
                f"the extension {' and '.join(extensions)}. To load over several, run CREATE "
                "EXTENSION before a restore."
            )
            return False
        return recreation.can_be_created_elsewhere(cursor)

    def _make_recreation(self, dependencies: Dependencies, scratch: str | None) -> Recreation:
        existing = {
            (table.stored.schema, table.stored.name): table.place
            for table in self.planned
            if table.existing is not None
        }
        return Recreation(list(self._new.values()), existing, dependencies, scratch)

    def _make_scratch(self, cursor: Cursor) -> None:
        """Commit the scratch schema, empty, before anything else is made; then keep it from other
        restores. If one of them drops it in between, it is made again with the tables."""
        scratch = scratch_name(self.run_id)
        create_scratch(cursor, scratch)
        self._scratch = scratch
        self._keep(self._open_coordinator)
        hold_scratch(cursor, scratch)

    def _begin_on(self, connection: Connection) -> None:
        """Between its tasks too a connection is in a transaction: our settings hold, and no
        time-out for idle sessions ends it."""
        with connection.cursor() as cursor:
            apply_session_settings(cursor, self.lock_timeout)

    def _keep(self, connection: Connection) -> None:
        connection.commit()
        self._begin_on(connection)

    def _add_workers(self) -> None:
        """Connect as many workers as the server, or its pooler, has room for."""
        wanted = self.request.workers
        for number in range(wanted):
            try:
                worker = connect_to_write(self.settings, WORKER_PATIENCE_SECONDS)
            except (DatabaseError, ServiceUnavailable) as error:
                used = f"{number} of {wanted} workers" if number else "one connection (0 workers)"
                self.notices.append(f"The rows are loaded over {used}: {error.message}")
                break
            self._workers.append(worker)
            self._begin_on(worker)

    def _begin_in_place(self, cursor: Cursor) -> None:
        self.existing.take(cursor, self._content, self.lock_timeout)
        if self._recreation is not None:
            self._recreation.create(cursor)

    def loading_name(self, table: PlannedTable) -> tuple[str, str]:
        """Where the rows of a table go, for now."""
        if self._recreation is not None and table.table in self._new:
            return self._recreation.loading_name(self._new[table.table])
        return table.place

    @contextlib.contextmanager
    def loading(self, table: PlannedTable) -> Iterator[list[Connection]]:
        """The connections to load `table` over; their work is kept if nothing fails.

        Generated columns, CHECK constraints and triggers were written for the role's own search
        path, so rows are loaded under it.
        """
        with self._errors(f"restore {table.table}"), contextlib.ExitStack() as stack:
            for stream in self.streams:
                cursor = stack.enter_context(stream.cursor())
                stack.enter_context(own_search_path(cursor))
            yield self.streams
        with self._errors(f"restore {table.table}"):
            for worker in self._workers:
                self._keep(worker)

    def loaded(self, table: PlannedTable, rows: int) -> None:
        self._loaded[table.table] = rows

    def build(self, listener: IndexListener) -> None:
        """Keys and indexes of new tables, and those that were dropped before the load."""
        with self._errors("build the indexes"), self._building() as cursor:
            before_index = _IndexAnnouncer(cursor, self._rows_by_place(), self.notices, listener)
            if self._recreation is not None:
                # For functions in indexes; from PostgreSQL 17 on CREATE INDEX sets a path itself.
                with own_search_path(cursor):
                    self._recreation.build(cursor, before_index)
            self.existing.rebuild_indexes(cursor, before_index)
            if not self._workers:
                # Before the proof: a deferred constraint trigger may change rows.
                check_deferred_constraints(cursor)
                self.existing.reset_triggers(cursor)

    @contextlib.contextmanager
    def _building(self) -> Iterator[Cursor]:
        """A cursor on the connection that makes things, committed where that is the workers'."""
        connection = self.streams[0]
        with connection.cursor() as cursor:
            apply_statement_syntax(cursor)
            apply_maintenance_settings(
                cursor,
                self.request.maintenance_work_mem,
                self.request.max_parallel_maintenance_workers,
            )
            yield cursor
        if self._workers:
            self._keep(connection)

    def _rows_by_place(self) -> Mapping[tuple[str, str], int]:
        rows = {}
        for table in self.planned:
            before = self.existing.before.get(table.table)
            kept = before.kept.rows if before else 0
            rows[self.loading_name(table)] = kept + self._loaded.get(table.table, 0)
        return rows

    def content(self, table: PlannedTable) -> Content:
        """What `table` holds now, over every stream."""
        return self._content(table)

    def _content(self, table: PlannedTable) -> Content:
        place = self.loading_name(table)
        try:
            with self._errors(f"prove {table.table}"), self.streams[0].cursor() as cursor:
                identity = table_identity(cursor, *place)
            secrets = self.settings.secrets
            return content_of(self.streams, identity, table.columns, table.stored.form, secrets)
        finally:
            # Their read locks would stand in the way of the move into place.
            for worker in self._workers:
                self._let_go(worker)

    def _let_go(self, worker: Connection) -> None:
        with contextlib.suppress(psycopg2.Error):  # Gone; whoever needs it next will say so.
            worker.rollback()
            self._begin_on(worker)

    def rows(self, table: PlannedTable) -> int:
        """How many rows an existing `table` holds now."""

        with self._errors(f"count {table.table}"), self._open_coordinator.cursor() as cursor:
            return self.existing.count(cursor, table.table)

    def finish_tables(self) -> None:
        """What comes when the rows are proven: constraints, row security, places, sequences."""
        with self._errors("finish the tables"):
            if self._recreation is not None:
                with self._building() as cursor:
                    self._recreation.finish(cursor)
            self._end_workers()
            with self._open_coordinator.cursor() as cursor:
                if self._recreation is not None:
                    apply_statement_syntax(cursor)
                    self._recreation.publish(cursor)
                # Before the sequences move, which no rollback takes back.
                check_deferred_constraints(cursor)
                self.notices += self.existing.move_sequences(cursor)

    def commit(self) -> None:
        """Make all of it visible at once.

        Raises:
            CommitUnknown: nobody can say whether it happened.
        """
        if self._server is None:
            raise BackupError("The steps of this restore were not called in their order.")
        with self._errors("commit the restore"):
            commit_or_learn(self._open_coordinator, self.settings, self._server, _IF_UNKNOWN)
        self.is_published = True

    def not_recreated(self) -> dict[str, list[str]]:
        if self._recreation is None:
            return {}
        lost = self._recreation.not_recreated(self._role)
        found = {name: lost.get(str(new.definition), []) for name, new in self._new.items()}
        return {name: what for name, what in found.items() if what}

    def close(self) -> None:
        """End every connection; unless it was committed, the target is then as it was."""
        with uncancellable():
            self._end_workers()
            if self._coordinator is not None:
                end_quietly(self._coordinator)
            if self._scratch is not None and not self.is_published:
                self._abandon_scratch(self._scratch)
                self._scratch = None

    def _abandon_scratch(self, scratch: str) -> None:
        try:
            connection = connect_to_write(self.settings)
        except BackupError as error:
            self._scratch_remains(scratch, error.message)
            return
        try:
            with self._errors("drop the scratch schema"), connection.cursor() as cursor:
                apply_session_settings(cursor, self.lock_timeout)
                drop_scratch(cursor, scratch)
                connection.commit()
        except BackupError as error:
            self._scratch_remains(scratch, error.message)
        finally:
            close_quietly(connection)

    def _scratch_remains(self, scratch: str, reason: str) -> None:
        self.notices.append(
            f"The scratch schema {scratch} may remain in the target ({reason}). The next restore "
            "drops it."
        )

    def _end_workers(self) -> None:
        for worker in self._workers:
            end_quietly(worker)
        self._workers = []

    def _errors(self, action: str) -> contextlib.AbstractContextManager[None]:
        return database_errors(action, self.settings.secrets)

    @property
    def _open_coordinator(self) -> Connection:
        if self._coordinator is None:
            raise BackupError("The steps of this restore were not called in their order.")
        return self._coordinator


@dataclass(frozen=True)
class _IndexAnnouncer:
    """Says which index is about to be built, and whether its memory will do."""

    cursor: Cursor
    rows: Mapping[tuple[str, str], int]
    notices: list[str]
    listener: IndexListener

    def __call__(self, place: tuple[str, str], index: Index) -> None:
        self.listener(f"Building {index.name} ({index.access_method}) of {place[1]}")
        if index.access_method == "hnsw":
            notice = hnsw_memory_notice(
                self.cursor, *place, index, rows=self.rows.get(place, max(self.rows.values()))
            )
            if notice is not None:
                self.notices.append(notice)
                self.listener(notice)
