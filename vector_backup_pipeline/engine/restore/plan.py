"""Which table of the target takes which stored rows, and whether it can.

Everything here is asked and decided before the first lock: what does not fit is found out while
nothing has been touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import Composable

from vector_backup_pipeline.engine.errors import InvalidParams, TableNotFound
from vector_backup_pipeline.engine.manifest import Server
from vector_backup_pipeline.engine.postgres.server import ServerIdentity
from vector_backup_pipeline.engine.postgres.sql_ascii import ENCODING
from vector_backup_pipeline.engine.postgres.targets import (
    ExistingTable,
    TargetColumn,
    find_existing,
    place_of_bare_name,
)
from vector_backup_pipeline.engine.postgres.triggers import Trigger
from vector_backup_pipeline.engine.restore.source import RestoreSource, StoredTable, find_stored
from vector_backup_pipeline.engine.table_definition import Column
from vector_backup_pipeline.parameters.restore import RestoreParameters
from vector_backup_pipeline.parameters.table_names import TableName, parse_table_name

# Types whose modifier is a number of dimensions, which a value either has or does not fit.
_FIXED_DIMENSIONS = {"vector", "halfvec", "sparsevec", "bit"}
_NEVER_CUT = {"vector", "halfvec", "sparsevec"}
_TEXTS = {"text", "varchar"}


def check_encoding(source: Server, target: ServerIdentity) -> None:
    """Raises `InvalidParams` if the bytes of a SQL_ASCII database can't go into the target."""
    if source.encoding == ENCODING != target.encoding:
        raise InvalidParams(
            f"The set was made from the SQL_ASCII database {source.database}, whose bytes have no "
            f"known encoding; the database {target.database} has encoding {target.encoding}. "
            "Restore into a database made with: CREATE DATABASE ... TEMPLATE template0 ENCODING "
            "'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'."
        )


@dataclass(frozen=True)
class PlannedTable:
    """A stored table and its place in the target: `existing`, or None where it is to be made.

    `where` chooses among the file's rows, None for all of them.
    """

    stored: StoredTable
    schema: str
    name: str
    existing: ExistingTable | None
    where: Composable | None = None

    @property
    def table(self) -> str:
        return self.stored.table

    @property
    def columns(self) -> tuple[str, ...]:
        """Those of the file."""
        return tuple(self.stored.data.digest.columns)

    @property
    def place(self) -> tuple[str, str]:
        return self.schema, self.name

    @property
    def is_renamed(self) -> bool:
        return self.place != (self.stored.schema, self.stored.name)

    @property
    def holds_names(self) -> bool:
        """Whether values name tables or types (regclass and its like), and so have to find them."""
        definition = self.stored.definition
        columns = definition.columns if definition else ()
        types = [column.type for column in columns if column.type.schema_name == "pg_catalog"]
        return any(each.name.lstrip("_").startswith("reg") for each in types)

    def key(self) -> tuple[str, ...] | None:
        """The unique key that the file's rows can be told apart by, the primary key if possible."""
        keys = self.existing.unique_keys if self.existing else ()
        return next((key for key in keys if set(key) <= set(self.columns)), None)


def plan_tables(
    cursor: Cursor,
    source: RestoreSource,
    request: RestoreParameters,
) -> list[PlannedTable]:
    """Find the place of every table of `source`, parents before their children.

    Call this before the search path is emptied: tables of the older system's files are found by it.

    Raises:
        InvalidParams, TableNotFound, PermissionDenied: a table can't take its rows.
    """
    planned = []
    for stored in source.tables:
        schema, name = _place(cursor, source, stored, request.rename)
        existing = find_existing(cursor, schema, name)
        planned.append(PlannedTable(stored, schema, name, existing))
    _check_places(planned)
    for table in planned:
        _check(table, request)
    if request.truncate_before_restore:
        _check_truncate(planned)
    return _parents_first(planned)


def _place(
    cursor: Cursor, source: RestoreSource, stored: StoredTable, rename: Mapping[str, str]
) -> tuple[str, str]:
    wanted = TableName(None, stored.name)
    for old, new in rename.items():
        if find_stored(source.tables, old) is stored:
            wanted = parse_table_name(new)
    if wanted.schema is not None:
        return wanted.schema, wanted.name
    if stored.definition is not None:
        return stored.schema, wanted.name
    return _place_by_search_path(cursor, stored, wanted)


def _place_by_search_path(
    cursor: Cursor, stored: StoredTable, wanted: TableName
) -> tuple[str, str]:
    place = place_of_bare_name(cursor, wanted.name)
    if place is None:
        raise _no_definition(stored, wanted.name)
    return place


def _no_definition(stored: StoredTable, name: str) -> TableNotFound:
    return TableNotFound(
        f"The table {name} does not exist, and {stored.file} is the older system's, which kept no "
        "table definitions. Create the table first (LangChain creates both), then restore."
    )


def _check_places(planned: Sequence[PlannedTable]) -> None:
    taken: dict[tuple[str, str], str] = {}
    for table in planned:
        if table.place in taken:
            raise InvalidParams(
                f"{table.table} and {taken[table.place]} would both go into "
                f"{table.schema}.{table.name}. Give one of them another name with rename."
            )
        taken[table.place] = table.table


def _check(table: PlannedTable, request: RestoreParameters) -> None:
    existing = table.existing
    if existing is None:
        if table.stored.definition is None:
            raise _no_definition(table.stored, f"{table.schema}.{table.name}")
        return
    _check_columns(table, existing, request)
    triggers = firing_triggers(existing, request)
    if triggers and not (request.fire_triggers or request.disable_triggers):
        names = dict.fromkeys(each.name for each in triggers)
        raise InvalidParams(
            f"{existing.label} has triggers ({', '.join(names)}) that this restore would fire. "
            "Set disable_triggers to load without them, as the table's owner; or fire_triggers to "
            "let them run."
        )
    if request.on_conflict != "fail":
        _check_conflicts(table, existing, request)


def firing_triggers(existing: ExistingTable, request: RestoreParameters) -> list[Trigger]:
    """The triggers that the restore would fire if nothing disables them."""
    events = {"INSERT"}
    if request.on_conflict == "replace":
        events.add("UPDATE")
    if request.truncate_before_restore:
        events.add("TRUNCATE")
    return [each for each in existing.triggers if each.enabled and events & each.events]


def _check_columns(
    table: PlannedTable, existing: ExistingTable, request: RestoreParameters
) -> None:
    missing = [name for name in table.columns if existing.column(name) is None]
    if missing:
        raise InvalidParams(
            f"{existing.label} lacks {_listed(missing)} of the backup: this set is of another "
            "table. Restore under another name with rename, or name the right set."
        )
    generated = [name for name in table.columns if _column(existing, name).is_generated]
    if generated:
        raise InvalidParams(
            f"{existing.label} computes {_listed(generated)} itself, while the backup holds its "
            "values. Restore under another name with rename."
        )
    needed = [
        column.name
        for column in existing.columns
        if column.not_null
        and not (column.has_default or column.is_generated or column.name in table.columns)
    ]
    if needed:
        raise InvalidParams(
            f"{existing.label} needs a value in {_listed(needed)}, which the backup does not have. "
            "Give a default for the restore, or restore under another name with rename."
        )
    if table.stored.definition is not None:
        for column in table.stored.definition.columns:
            _check_computed(existing, column)
            _check_dimensions(table, existing, column)
            if not request.loads_every_row_as_it_is:
                _check_type(existing, column)


def _check_computed(existing: ExistingTable, column: Column) -> None:
    found = existing.column(column.name)
    if column.generated is not None and found is not None and not found.is_generated:
        raise InvalidParams(
            f"The column {column.name} was computed in the backup, which so has no values of it, "
            f"and is an ordinary one in {existing.label}. Restore under another name with rename."
        )


def _check_type(existing: ExistingTable, column: Column) -> None:
    """Where no digest is compared, nothing would notice values that are rounded or cut."""
    found = existing.column(column.name)
    if found is None or column.generated is not None:
        return
    pair = {found.type_name, column.type.name}
    same = len(pair) == 1 or pair == _TEXTS
    # Another number of dimensions is an error; anything else of a modifier rounds or cuts.
    fits = found.modifier in (-1, column.type.modifier) or found.type_name in _NEVER_CUT
    if not (same and fits):
        raise InvalidParams(
            f"The column {column.name} of {existing.label} is not of the backup's type "
            f"{column.type.text}. Where rows are chosen, skipped or replaced, no digest can show "
            "whether values change on the way: restore under another name with rename, and take "
            "over the rows from there."
        )


def _check_dimensions(table: PlannedTable, existing: ExistingTable, column: Column) -> None:
    found = existing.column(column.name)
    if found is None or found.type_name not in _FIXED_DIMENSIONS:
        return
    stored, target = column.type.modifier, found.modifier
    if found.type_name == column.type.name and min(stored, target) >= 0 and stored != target:
        raise InvalidParams(
            f"The column {column.name} of {existing.label} takes {found.type_name}({target}), the "
            f"backup of {table.table} holds {found.type_name}({stored}): these vectors do not fit. "
            "Restore under another name with rename."
        )


def _check_conflicts(
    table: PlannedTable, existing: ExistingTable, request: RestoreParameters
) -> None:
    key = table.key()
    if key is None:
        raise InvalidParams(
            f"{existing.label} has no unique key over the backup's columns, so on_conflict "
            f"{request.on_conflict!r} can't tell which rows are there already. Truncate it before "
            "the restore, or restore under another name with rename."
        )
    if request.on_conflict == "replace":
        _check_replaceable(table, existing, key)
    if existing.rules:
        raise InvalidParams(
            f"{existing.label} has rules ({', '.join(existing.rules)}), which would rewrite what "
            f"on_conflict {request.on_conflict!r} does. Restore under another name with rename."
        )


def _check_replaceable(table: PlannedTable, existing: ExistingTable, key: tuple[str, ...]) -> None:
    changed = [_column(existing, name) for name in table.columns if name not in key]
    fixed = [column.name for column in changed if column.is_always_identity]
    if fixed:
        raise InvalidParams(
            f"{existing.label} always generates {_listed(fixed)} itself, and PostgreSQL lets "
            "nobody update it, so on_conflict 'replace' can't put it back. Make the column "
            "GENERATED BY DEFAULT for the restore, or use on_conflict 'skip'."
        )


def _check_truncate(planned: Iterable[PlannedTable]) -> None:
    existing = [table.existing for table in planned if table.existing is not None]
    places = {table.place for table in existing}
    for table in existing:
        others = [f"{s}.{n}" for s, n in table.referenced_by if (s, n) not in places]
        if others:
            raise InvalidParams(
                f"{table.label} can't be truncated: {_listed(others)} has rows that refer to it "
                "and is not restored along. Restore both, or use on_conflict."
            )


def _parents_first(planned: Sequence[PlannedTable]) -> list[PlannedTable]:
    """In an order in which foreign keys find their rows; a circle is taken as it comes."""
    ordered: list[PlannedTable] = []
    waiting = list(planned)
    while waiting:
        left = {table.place for table in waiting}
        ready = [table for table in waiting if not _parents(table, planned) & left] or waiting[:1]
        ordered += ready
        waiting = [table for table in waiting if table not in ready]
    return ordered


def _parents(table: PlannedTable, planned: Iterable[PlannedTable]) -> set[tuple[str, str]]:
    """The places of the other tables that this one's rows refer to."""
    if table.existing is not None:
        return set(table.existing.references) - {table.place}
    definition = table.stored.definition
    keys = definition.foreign_keys if definition else ()
    named = {(key.references.schema_name, key.references.name) for key in keys}
    places = {other.place for other in planned if (other.stored.schema, other.stored.name) in named}
    return places - {table.place}


def _column(existing: ExistingTable, name: str) -> TargetColumn:
    return next(column for column in existing.columns if column.name == name)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
