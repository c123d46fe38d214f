"""The tables of the target that are there already: kept from writers, looked at, emptied, rid of
the indexes that are faster built anew. All of it in the coordinator's one transaction."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Ordered
from dataclasses import dataclass, field

from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.errors import DatabaseError, InvalidParams
from vector_backup_pipeline.engine.postgres.index_rebuild import (
    RebuildableIndex,
    drop_indexes,
    rebuild_indexes,
    rebuildable_indexes,
)
from vector_backup_pipeline.engine.postgres.recreation.lookups import sequences_there
from vector_backup_pipeline.engine.postgres.session import defer_constraints
from vector_backup_pipeline.engine.postgres.targets import (
    ExistingTable,
    count_rows,
    find_existing,
    last_value_in_column,
    lock_targets,
    move_sequence_forward,
    truncate_targets,
)
from vector_backup_pipeline.engine.postgres.triggers import disable_triggers, reset_triggers
from vector_backup_pipeline.engine.restore.plan import PlannedTable, firing_triggers
from vector_backup_pipeline.engine.restore.proof import EMPTY, Content
from vector_backup_pipeline.engine.table_definition import Index, Sequence
from vector_backup_pipeline.parameters.restore import RestoreParameters

BeforeIndex = Callable[[tuple[str, str], Index], None]


@dataclass(frozen=True)
class Before:
    """What a table held when it was locked, and what stayed of that."""

    rows: int
    kept: Content


@dataclass
class ExistingTables:
    """Those of the plan that exist. `before` is by the backup's name of the table.

    They are truncated in one statement, which took `truncate_seconds`.
    """

    request: RestoreParameters
    tables: Mapping[str, tuple[PlannedTable, ExistingTable]]
    before: dict[str, Before] = field(default_factory=dict)
    truncate_seconds: float = 0.0
    _kept_from_readers: set[int] = field(default_factory=set)
    _dropped: dict[str, list[RebuildableIndex]] = field(default_factory=dict)

    @classmethod
    def of(cls, planned: Ordered[PlannedTable], request: RestoreParameters) -> ExistingTables:
        found = {t.table: (t, t.existing) for t in planned if t.existing is not None}
        return cls(request, found)

    def decide(self, cursor: Cursor) -> None:
        """Decide which tables readers must be kept from too: those that are emptied, or whose
        indexes are built anew. In a transaction of its own, whose locks are gone before we lock."""
        for planned, table in self.tables.values():
            if self.request.truncate_before_restore or (
                self._is_outnumbered(cursor, planned, table)
                and rebuildable_indexes(cursor, table.oid)
            ):
                self._kept_from_readers.add(table.oid)

    def _is_outnumbered(self, cursor: Cursor, planned: PlannedTable, table: ExistingTable) -> bool:
        """Whether more rows come than there are: then indexes are faster built than kept up."""
        rows = planned.stored.rows
        if not rows or not self.request.loads_every_row_as_it_is:
            return False
        return count_rows(cursor, table.target, at_most=rows) < rows

    def lost_foreign_keys(self) -> list[str]:
        """Those of the backup that lead from these tables and are gone, as a table that was dropped
        with CASCADE takes them along: what a person should know, and how to make them."""
        places = {
            (planned.stored.schema, planned.stored.name): planned.place
            for planned, _ in self.tables.values()
        }
        lost = []
        for planned, table in self.tables.values():
            definition = planned.stored.definition
            for key in definition.foreign_keys if definition else ():
                own = key.references.schema_name, key.references.name
                of_partition = str(key.table) != str(definition)
                if (
                    of_partition
                    or planned.is_renamed
                    or places.get(own, own) in (*table.references, table.place)
                ):
                    continue
                lost.append(
                    f"{table.label} lacks the foreign key {key.name} to {key.references}, which it "
                    f"had in the backup. To make it again: {key.ddl}"
                )
        return lost

    def take(
        self,
        cursor: Cursor,
        content_of: Callable[[PlannedTable], Content],
        lock_timeout: float,
    ) -> None:
        """Lock all of them, remember what they hold, and make room as asked.

        Raises:
            psycopg2.Error: a lock is not to be had.
            DatabaseError: a table was changed while it was being locked.
            InvalidParams: a second restore could double a table's rows.
        """
        tables = [table for _, table in self.tables.values()]
        lock_targets(cursor, tables, self._kept_from_readers, lock_timeout)
        # Foreign keys that go in a circle can be satisfied at the end alone.
        defer_constraints(cursor)
        for _, table in self.tables.values():
            if find_existing(cursor, table.schema, table.name) != table:
                raise DatabaseError(
                    f"{table.label} was changed while it was being locked. Restore again."
                )
        for planned, table in self.tables.values():
            self.before[planned.table] = self._look(cursor, planned, table, content_of)
        if self.request.disable_triggers:
            for _, table in self.tables.values():
                disable_triggers(cursor, firing_triggers(table, self.request))
        if self.request.truncate_before_restore and self.tables:
            started = time.monotonic()
            truncate_targets(cursor, tables)
            self.truncate_seconds = time.monotonic() - started
        for planned, table in self.tables.values():
            if table.oid in self._kept_from_readers:
                self._drop_indexes(cursor, planned, table)

    def _look(
        self,
        cursor: Cursor,
        planned: PlannedTable,
        table: ExistingTable,
        content_of: Callable[[PlannedTable], Content],
    ) -> Before:
        rows = count_rows(cursor, table.target)
        if not rows or self.request.truncate_before_restore:
            return Before(rows, EMPTY)
        if planned.key() is None:
            raise InvalidParams(
                f"{table.label} holds {rows} rows and has no unique key over the backup's "
                "columns: restoring the same set twice would double its rows. Truncate it before "
                "the restore, or restore under another name with rename."
            )
        if not (self.request.loads_every_row_as_it_is and planned.stored.data.has_digest):
            return Before(rows, Content(rows, 0))
        return Before(rows, content_of(planned))

    def _drop_indexes(self, cursor: Cursor, planned: PlannedTable, table: ExistingTable) -> None:
        indexes = rebuildable_indexes(cursor, table.oid)
        drop_indexes(cursor, indexes)
        self._dropped[planned.table] = indexes

    def rebuild_indexes(self, cursor: Cursor, before_index: BeforeIndex) -> None:
        for indexes in self._dropped.values():
            rebuild_indexes(cursor, indexes, before_index)

    def reset_triggers(self, cursor: Cursor) -> None:
        """Undo what `take` did to triggers, when no deferred trigger is pending any more."""
        if self.request.disable_triggers:
            for _, table in self.tables.values():
                disabled = {each.name for each in firing_triggers(table, self.request)}
                reset_triggers(cursor, [each for each in table.triggers if each.name in disabled])

    def count(self, cursor: Cursor, table: str) -> int:
        """The rows that `table` holds now."""
        return count_rows(cursor, self.tables[table][1].target)

    def move_sequences(self, cursor: Cursor) -> list[str]:
        """Move the sequences that the tables use forward to the backup's values, or to the last
        values in their columns where the backup has none. Returns notices."""
        left = []
        for planned, table in self.tables.values():
            definition = planned.stored.definition
            for sequence in definition.sequences if definition else ():
                place = _place_of(cursor, sequence, table)
                if place is None:
                    continue
                last_value, is_called = sequence.last_value, bool(sequence.is_called)
                if last_value is None:
                    last_value, is_called = (
                        last_value_in_column(cursor, table.place, sequence),
                        True,
                    )
                if last_value is not None and not move_sequence_forward(
                    cursor, place, last_value, is_called=is_called
                ):
                    left.append(
                        f"The sequence {'.'.join(place)} was left where it is: this role may not "
                        "set it. New rows may collide with restored ones; set it with setval()."
                    )
        return left


def _place_of(cursor: Cursor, sequence: Sequence, table: ExistingTable) -> tuple[str, str] | None:
    """Where the sequence is that does in the target what `sequence` did in the source."""
    if sequence.role != "shared":
        return table.sequences.get(sequence.column)
    place = sequence.schema_name, sequence.name
    return place if place in sequences_there(cursor, {place}) else None
