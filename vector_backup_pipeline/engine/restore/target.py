"""The tables of the target: what happens to them, in which order.

    begin ─▶ load (each table) ─▶ build_indexes ─▶ prove (each table) ─▶ finish

There are two ways, with the same steps:

- One transaction of one connection: locks, truncation, new tables, rows, indexes and proof. Used
  whenever a table exists in the target.
- If all tables are new and large: several connections load into a staging schema and commit
  there. At the end, the coordinator's transaction, opened before, moves the tables into place.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.errors import IntegrityError, PermissionDenied
from vector_backup_pipeline.engine.formats.blocks import EMPTY, Content, RowBlock
from vector_backup_pipeline.engine.postgres.connection import Connection
from vector_backup_pipeline.engine.postgres.ranges import cut_into_ranges
from vector_backup_pipeline.engine.postgres.recreation import NewTable, Recreation
from vector_backup_pipeline.engine.postgres.session import (
    apply_statement_syntax,
    check_deferred_constraints,
    own_search_path,
)
from vector_backup_pipeline.engine.postgres.staging import may_create_schema, staging_name
from vector_backup_pipeline.engine.postgres.tables import read_sources
from vector_backup_pipeline.engine.postgres.targets import count_rows, table_identity
from vector_backup_pipeline.engine.range_readers import ReadJob, read_ranges
from vector_backup_pipeline.engine.restore.connections import TargetConnections
from vector_backup_pipeline.engine.restore.existing import Before, ExistingTables
from vector_backup_pipeline.engine.restore.plan import PlannedTable
from vector_backup_pipeline.engine.table_definition import Dependency, Index
from vector_backup_pipeline.parameters.restore import RestoreParameters

# Below this size a second connection does not pay off: two blocks of a stored file's index.
_WORTH_CONNECTIONS = 16 << 20
_ROLLED_BACK = "Everything was rolled back, and the target is unchanged."

IndexListener = Callable[[str], None]


class Target:
    """The planned tables of one restore, which are loaded over `connections`.

    `begin` decides how new tables are created; without new tables there is no `Recreation`.
    """

    def __init__(
        self,
        connections: TargetConnections,
        planned: Sequence[PlannedTable],
        request: RestoreParameters,
    ) -> None:
        self.planned = list(planned)
        self.connections = connections
        self._request = request
        self._new = {
            table.table: NewTable(table.stored.definition, table.schema, table.name)
            for table in planned
            if table.existing is None and table.stored.definition is not None
        }
        self._recreation: Recreation | None = None
        with connections.errors("read the target"), connections.coordinator.cursor() as cursor:
            self.existing = ExistingTables(cursor, planned, request)
            connections.commit_and_begin(connections.coordinator)

    def begin(self, dependencies: Sequence[Dependency], run_id: str) -> None:
        """Lock, truncate and create the tables, as requested. From here on the target is changed.

        Raises:
            LockTimeout: another session holds a table.
            DatabaseRefused, InvalidParams, PermissionDenied: the target can't take the tables.
        """
        connections = self.connections
        with connections.errors("prepare the target"), connections.coordinator.cursor() as cursor:
            connections.drop_dead_staging_schemas(cursor)
            if self._new:
                self._recreation = self._plan_creation(cursor, dependencies, run_id)
            self.existing.take(cursor, self.content, connections.lock_timeout)
            if self._recreation is not None:
                with connections.building() as building:
                    self._recreation.create(building)

    def _plan_creation(
        self, cursor: Cursor, dependencies: Sequence[Dependency], run_id: str
    ) -> Recreation:
        """Decide where new tables are created, and how many connections load them."""
        new = [table for table in self.planned if table.table in self._new]
        existing = {
            (table.stored.schema, table.stored.name): table.full_name
            for table in self.planned
            if table.existing is not None
        }
        tables = list(self._new.values())
        staged = Recreation(tables, existing, dependencies, staging_name(run_id))
        staged.check(cursor)
        is_renamed = any(table.is_renamed for table in tables)
        is_large = (
            len(new) == len(self.planned)
            and self._request.workers > 1
            and not any(table.holds_names for table in new)
            and sum(table.stored.size for table in new) >= _WORTH_CONNECTIONS
        )
        if not (is_renamed or is_large) or not self._may_stage(cursor, is_needed=is_renamed):
            return Recreation(tables, existing, dependencies, None)
        if is_large and self._can_commit_early(cursor, staged):
            self.connections.add_workers()
        self.connections.create_staging_schema(cursor, run_id)
        return staged

    def _may_stage(self, cursor: Cursor, *, is_needed: bool) -> bool:
        may_create = may_create_schema(cursor)
        if is_needed and not may_create:
            raise PermissionDenied(
                "A table that is created under another name is first created in a schema of its "
                f"own, and the role {self.connections.role} may not create one. GRANT CREATE ON "
                "DATABASE to it, restore into an existing table of that name, or restore without "
                "rename."
            )
        return may_create

    def _can_commit_early(self, cursor: Cursor, recreation: Recreation) -> bool:
        if missing := recreation.missing_dependencies(cursor):
            self.connections.notices.append(
                f"The rows are loaded over one connection, because the same transaction creates "
                f"the {' and the '.join(missing)}. To load over several, create what is missing "
                "before the restore."
            )
        return not missing

    def loading_name(self, table: PlannedTable) -> tuple[str, str]:
        """The table that rows are loaded into, until `finish`."""
        if self._recreation is not None and table.table in self._new:
            return self._recreation.loading_name(self._new[table.table])
        return table.full_name

    @contextlib.contextmanager
    def loading(self, table: PlannedTable) -> Iterator[list[Connection]]:
        """The connections to load `table` over; their work is kept if the block succeeds.

        Generated columns, CHECK constraints and triggers were written for the role's own search
        path, so rows are loaded under it.
        """
        streams = self.connections.streams
        with self.connections.errors(f"restore {table.table}"):
            with contextlib.ExitStack() as stack:
                for stream in streams:
                    cursor = stack.enter_context(stream.cursor())
                    stack.enter_context(own_search_path(cursor))
                yield streams
            self.connections.commit_workers()

    def build_indexes(self, listener: IndexListener) -> None:
        """Create keys and indexes of new tables, and those that were dropped before the load."""
        with self.connections.errors("build the indexes"), self.connections.building() as cursor:
            builds = _IndexBuilds(self.connections.notices, listener, self.connections.streams[0])
            if self._recreation is not None:
                # For functions in indexes; from PostgreSQL 17 on CREATE INDEX sets a path itself.
                with own_search_path(cursor):
                    self._recreation.build(cursor, builds)
            self.existing.rebuild_indexes(cursor, builds)
            builds.end()
            if not self.connections.workers:
                # Before the proof: a deferred constraint trigger may change rows.
                check_deferred_constraints(cursor)
                self.existing.reset_triggers(cursor)

    def prove(self, table: PlannedTable, loaded: int) -> bool | None:
        """Compare `table` with the manifest: by digest if every row was loaded unchanged (True),
        else by the number of rows, of which `loaded` were written (None). Raises `IntegrityError`
        if they differ."""
        stored, request = table.stored, self._request
        before = self.existing.before.get(table.table, Before(0, EMPTY))
        if request.loads_every_row_as_it_is and stored.digest is not None:
            added = self.content(table) - before.kept
            _check_equal(table.table, added, Content(stored.rows, int(stored.digest, 16)))
            return True
        if request.loads_every_row_as_it_is and loaded != stored.rows:
            raise IntegrityError(
                f"{loaded} rows were loaded into {table.table}, and {stored.file} had "
                f"{stored.rows} when it was adopted. {_ROLLED_BACK} Check the disk."
            )
        rows, kept = self._count(table), before.kept.rows
        least = kept if request.on_conflict == "replace" else kept + loaded
        if not least <= rows <= kept + loaded:
            raise IntegrityError(
                f"{loaded} rows were loaded into {table.table}, which had {kept} and now has "
                f"{rows}. {_ROLLED_BACK} A trigger or a rule may have interfered."
            )
        return None

    def _count(self, table: PlannedTable) -> int:
        if table.existing is None:
            return self.content(table).rows
        connections = self.connections
        with connections.errors(f"count {table.table}"), connections.coordinator.cursor() as cursor:
            return count_rows(cursor, table.existing.target)

    def content(self, table: PlannedTable) -> Content:
        """The rows that `table` has now, read over every connection as an export would. They see
        the same rows: there is only one, or nobody writes to the table."""
        connections = self.connections
        streams, secrets = connections.streams, connections.settings.secrets
        total = EMPTY
        try:
            with connections.errors(f"prove {table.table}"), streams[0].cursor() as cursor:
                resolved = table_identity(cursor, *self.loading_name(table))
                ranges = cut_into_ranges(read_sources(cursor, [resolved])[resolved.oid])
            job = ReadJob(resolved.requested, table.columns, ranges, table.stored.form, secrets)
            with read_ranges(streams, job) as readers:
                for item in readers:
                    if isinstance(item, RowBlock):
                        total += Content(item.rows, item.digest)
            return total
        finally:
            # Their locks would block the move into place.
            connections.release_locks_of_workers()

    def finish(self) -> None:
        """After the proof: constraints, row security, final names, sequences."""
        connections = self.connections
        with connections.errors("finish the tables"):
            if self._recreation is not None:
                with connections.building() as cursor:
                    self._recreation.finish(cursor)
            connections.end_workers()
            with connections.coordinator.cursor() as cursor:
                if self._recreation is not None:
                    apply_statement_syntax(cursor)
                    self._recreation.publish(cursor)
                # Before the sequences move, which no rollback takes back.
                check_deferred_constraints(cursor)
                connections.notices += self.existing.move_sequences(cursor)

    def not_recreated(self) -> dict[str, list[str]]:
        """By table, the parts of its definition that the created table lacks."""
        if self._recreation is None:
            return {}
        by_definition = self._recreation.not_recreated(self.connections.role)
        parts = {t: by_definition.get(str(new.definition)) for t, new in self._new.items()}
        return {table: missing for table, missing in parts.items() if missing}


def _check_equal(table: str, actual: Content, expected: Content) -> None:
    """Raise `IntegrityError` unless the target has the manifest's content."""
    if actual.rows != expected.rows:
        raise IntegrityError(
            f"After the load {table} holds {actual.rows} rows of the backup, not {expected.rows}. "
            f"{_ROLLED_BACK}"
        )
    if actual.digest != expected.digest:
        raise IntegrityError(
            f"The rows of {table} in the target are not those of the backup: content digest "
            f"{actual.digest:032x}, expected {expected.digest:032x}. {_ROLLED_BACK} A trigger, a "
            "column of another type or size, or another version of an extension changes values; "
            "or the manifest was changed."
        )


@dataclass
class _IndexBuilds:
    """Tells `listener` which index is being built. The server's messages about it become notices,
    such as pgvector's that the graph no longer fits into maintenance_work_mem."""

    notices: list[str]
    listener: IndexListener
    connection: Connection
    _current: str = ""

    def __call__(self, index: Index) -> None:
        self.end()
        self._current = f"{index.name} ({index.access_method}) of {index.table.name}"
        self.listener(f"Building {self._current}")

    def end(self) -> None:
        for message in self.connection.notices if self._current else ():
            # "NOTICE:  …", "DETAIL:  …" and "HINT:  …", a line each.
            parts = (line.partition(":")[2].strip(" .") for line in message.splitlines())
            self.notices.append(f"Index {self._current}: {'. '.join(parts)}.")
        del self.connection.notices[:]
