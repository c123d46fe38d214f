"""The tables of the target that exist: locked against writers, counted, emptied, and without the
indexes that are faster to build again. All of it in the coordinator's one transaction."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine import table_definition
from vector_backup_pipeline.engine.errors import DatabaseError, InvalidParams
from vector_backup_pipeline.engine.formats.blocks import EMPTY, Content
from vector_backup_pipeline.engine.postgres import index_rebuild, targets
from vector_backup_pipeline.engine.postgres.recreation.target_objects import existing_sequences
from vector_backup_pipeline.engine.restore.plan import PlannedTable, firing_triggers
from vector_backup_pipeline.engine.table_definition import Index
from vector_backup_pipeline.parameters.restore import RestoreParameters


@dataclass(frozen=True)
class Before:
    """The rows of a table when it was locked, and the content that was kept of them."""

    rows: int
    kept: Content


class ExistingTables:
    """`before` is by the backup's name of the table. All are truncated in one statement, which took
    `truncate_seconds`."""

    def __init__(
        self, cursor: Cursor, planned: Sequence[PlannedTable], request: RestoreParameters
    ) -> None:
        """Decide which tables are also locked against readers: those that are truncated, or whose
        indexes are rebuilt. Call this in a transaction that ends before `take`."""
        self.before: dict[str, Before] = {}
        self.truncate_seconds = 0.0
        self._request = request
        self._tables = [(table, table.existing) for table in planned if table.existing]
        self._dropped: list[Index] = []
        self._locked_from_readers = {
            existing.oid
            for table, existing in self._tables
            if request.truncate_before_restore
            or (
                self._is_outnumbered(cursor, table, existing)
                and index_rebuild.rebuildable_indexes(cursor, existing.oid)
            )
        }

    def _is_outnumbered(
        self, cursor: Cursor, table: PlannedTable, existing: targets.ExistingTable
    ) -> bool:
        """Whether more rows are loaded than exist: then rebuilding the indexes is faster."""
        rows = table.stored.rows
        if not rows or not self._request.loads_every_row_as_it_is:
            return False
        return targets.count_rows(cursor, existing.target, at_most=rows) < rows

    def take(
        self,
        cursor: Cursor,
        content_of: Callable[[PlannedTable], Content],
        lock_timeout: float,
    ) -> None:
        """Lock the tables, compute their content digests, and truncate them if requested.

        Raises:
            psycopg2.Error: a lock is not granted.
            DatabaseError: a table was changed while it was being locked.
            InvalidParams: a second restore could double a table's rows, or a table that is not
                restored references one that is truncated.
        """
        if not self._tables:
            return
        tables = [existing for _, existing in self._tables]
        targets.lock_targets(cursor, tables, self._locked_from_readers, lock_timeout)
        # Foreign keys in a cycle can only be satisfied at the end.
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")
        for existing in tables:
            if targets.find_existing(cursor, *existing.full_name) != existing:
                raise DatabaseError(
                    f"{existing.label} was changed while it was being locked. Restore again."
                )
        for table, existing in self._tables:
            self.before[table.table] = self._before(cursor, table, existing, content_of)
        if self._request.disable_triggers:
            for existing in tables:
                targets.set_triggers(cursor, firing_triggers(existing, self._request), "D")
        if self._request.truncate_before_restore:
            started = time.monotonic()
            targets.truncate_targets(cursor, tables)
            self.truncate_seconds = time.monotonic() - started
        for existing in tables:
            if existing.oid in self._locked_from_readers:
                self._dropped += index_rebuild.rebuildable_indexes(cursor, existing.oid)
        index_rebuild.drop_indexes(cursor, self._dropped)

    def _before(
        self,
        cursor: Cursor,
        table: PlannedTable,
        existing: targets.ExistingTable,
        content_of: Callable[[PlannedTable], Content],
    ) -> Before:
        rows = targets.count_rows(cursor, existing.target)
        if not rows or self._request.truncate_before_restore:
            return Before(rows, EMPTY)
        if table.key() is None:
            raise InvalidParams(
                f"{existing.label} holds {rows} rows and has no unique key over the backup's "
                "columns: restoring the same set twice would duplicate its rows. Truncate it "
                "before the restore, or restore under another name with rename."
            )
        if not (self._request.loads_every_row_as_it_is and table.stored.data.has_digest):
            return Before(rows, Content(rows, 0))
        return Before(rows, content_of(table))

    def rebuild_indexes(self, cursor: Cursor, before_index: index_rebuild.BeforeIndex) -> None:
        index_rebuild.rebuild_indexes(cursor, self._dropped, before_index)

    def reset_triggers(self, cursor: Cursor) -> None:
        """Restore the modes of the triggers that `take` changed, when no deferred trigger is
        pending."""
        if self._request.disable_triggers:
            for _, existing in self._tables:
                # By name: a partition's trigger of that name was changed with its parent's.
                names = {trigger.name for trigger in firing_triggers(existing, self._request)}
                targets.set_triggers(cursor, [t for t in existing.triggers if t.name in names])

    def move_sequences(self, cursor: Cursor) -> Iterator[str]:
        """Move the sequences that the tables use forward to the backup's values, or to the last
        values in their columns if the backup has none. Yields notices."""
        for table, existing in self._tables:
            definition = table.stored.definition
            for sequence in definition.sequences if definition else ():
                name = _name_in_target(cursor, sequence, existing)
                if name is None:
                    continue
                last_value, is_called = targets.known_value(cursor, existing.full_name, sequence)
                if last_value is None:
                    continue
                if not targets.move_sequence_forward(cursor, name, last_value, is_called=is_called):
                    yield (
                        f"The sequence {'.'.join(name)} was not changed, because this role may not "
                        "set it. New rows may collide with restored ones; set it with setval()."
                    )


def _name_in_target(
    cursor: Cursor, sequence: table_definition.Sequence, table: targets.ExistingTable
) -> tuple[str, str] | None:
    """The target's counterpart of `sequence`."""
    if sequence.role != "shared":
        return table.sequences.get(sequence.column)
    name = sequence.schema_name, sequence.name
    return name if name in existing_sequences(cursor, {name}) else None
