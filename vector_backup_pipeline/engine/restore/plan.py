"""The target table of each stored table, and checks that it can accept the rows.

All of this is checked before the first lock, while nothing has been changed.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import Composable

from vector_backup_pipeline.engine.errors import InvalidParams, TableNotFound
from vector_backup_pipeline.engine.manifest import Manifest
from vector_backup_pipeline.engine.postgres.server import ServerIdentity, pgvector_to_come
from vector_backup_pipeline.engine.postgres.sql_ascii import ENCODING
from vector_backup_pipeline.engine.postgres.targets import (
    ExistingTable,
    Trigger,
    find_existing,
    resolve_bare_name,
)
from vector_backup_pipeline.engine.restore.source import RestoreSource, StoredTable
from vector_backup_pipeline.engine.table_definition import Column
from vector_backup_pipeline.parameters.restore import RestoreParameters
from vector_backup_pipeline.parameters.table_names import TableName, parse_table_name

_PGVECTOR_TYPES = {"vector", "halfvec", "sparsevec"}
# The modifier of these types is a number of dimensions.
_DIMENSIONED = {*_PGVECTOR_TYPES, "bit"}
# The same values, in text and in binary.
_TEXTS = {"text", "varchar"}


@dataclass(frozen=True)
class PlannedTable:
    """A stored table and its table in the target: `existing`, or None if it is created.

    `where` selects among the file's rows, None all of them.
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
        """The file's columns."""
        return tuple(self.stored.data.digest.columns)

    @property
    def full_name(self) -> tuple[str, str]:
        return self.schema, self.name

    @property
    def holds_names(self) -> bool:
        """Whether values name tables or types (`regclass` and similar), which must exist first."""
        types = [column.type for column in self.stored.columns]
        built_in = [type_.name for type_ in types if type_.schema_name == "pg_catalog"]
        return any(name.lstrip("_").startswith("reg") for name in built_in)

    @property
    def json_columns(self) -> set[str]:
        columns = self.existing.columns if self.existing else ()
        return {column.name for column in columns if column.type_name in ("json", "jsonb")}

    @property
    def not_null_columns(self) -> set[str]:
        columns = self.existing.columns if self.existing else ()
        return {column.name for column in columns if column.not_null}

    def key(self) -> tuple[str, ...] | None:
        """The unique key that identifies the file's rows, the primary key if possible."""
        keys = self.existing.unique_keys if self.existing else ()
        return next((key for key in keys if set(key) <= set(self.columns)), None)


def plan_tables(
    cursor: Cursor, source: RestoreSource, target: ServerIdentity, request: RestoreParameters
) -> list[PlannedTable]:
    """Find the target of every table of `source`, parents before their children.

    Call this before the search path is emptied: tables of the older system are looked up on it.

    Raises:
        InvalidParams, TableNotFound, PermissionDenied: a table cannot accept the rows.
    """
    manifest = source.backup.manifest
    planned: list[PlannedTable] = []
    for stored in source.tables:
        schema, name = _target_name(cursor, stored, source.new_names.get(stored.table))
        for other in planned:
            if other.full_name == (schema, name):
                raise InvalidParams(
                    f"{stored.table} and {other.table} would both go into {schema}.{name}. Give "
                    "one of them another name with rename."
                )
        planned.append(PlannedTable(stored, schema, name, find_existing(cursor, schema, name)))
    for table in planned:
        if table.existing is not None:
            _check_existing(table, table.existing, request)
        elif table.stored.definition is None:
            raise _no_definition(table.stored, f"{table.schema}.{table.name}")
    _check_encoding(manifest, target)
    if not request.allow_other_versions:
        _check_binary_versions(cursor, planned, manifest, target)
    return _parents_first(planned)


def firing_triggers(existing: ExistingTable, request: RestoreParameters) -> list[Trigger]:
    """The triggers that the restore would fire if nothing disables them."""
    events = {"INSERT"}
    if request.on_conflict == "replace":
        events.add("UPDATE")
    if request.truncate_before_restore:
        events.add("TRUNCATE")
    return [trigger for trigger in existing.triggers if trigger.enabled and events & trigger.events]


def _target_name(cursor: Cursor, stored: StoredTable, new_name: str | None) -> tuple[str, str]:
    target_name = parse_table_name(new_name) if new_name else TableName(None, stored.name)
    if target_name.schema is not None:
        return target_name.schema, target_name.name
    if stored.definition is not None:
        return stored.schema, target_name.name
    resolved = resolve_bare_name(cursor, target_name.name)
    if resolved is None:
        raise _no_definition(stored, target_name.name)
    return resolved


def _no_definition(stored: StoredTable, name: str) -> TableNotFound:
    return TableNotFound(
        f"The table {name} does not exist, and {stored.file} is the older system's, which kept no "
        "table definitions. Create the table first (LangChain creates both), then restore."
    )


def _check_existing(
    table: PlannedTable, existing: ExistingTable, request: RestoreParameters
) -> None:
    """Raise `InvalidParams` unless the table can accept the rows."""
    names = {column.name for column in existing.columns}
    if missing := [name for name in table.columns if name not in names]:
        raise InvalidParams(
            f"{existing.label} lacks {', '.join(missing)} of the backup, which is of another "
            "table. Restore under another name with rename, or name the right set."
        )
    for column in table.stored.columns:
        _check_column(table, existing, column, request)
    triggers = firing_triggers(existing, request)
    if triggers and not (request.fire_triggers or request.disable_triggers):
        listed = ", ".join(dict.fromkeys(trigger.name for trigger in triggers))
        raise InvalidParams(
            f"{existing.label} has triggers ({listed}) that this restore would fire. Set "
            "disable_triggers to load without them, as the table's owner; or fire_triggers to let "
            "them run."
        )
    if request.on_conflict != "fail" and table.key() is None:
        raise InvalidParams(
            f"{existing.label} has no unique key over the backup's columns, so on_conflict "
            f"{request.on_conflict!r} cannot identify rows. Truncate it before the restore, or "
            "restore under another name with rename."
        )


def _check_column(
    table: PlannedTable, existing: ExistingTable, column: Column, request: RestoreParameters
) -> None:
    """Raise `InvalidParams` for a type that would change values without an error, or whose error
    would come late."""
    target_column = existing.column(column.name)
    if target_column is None:
        return
    if target_column.is_generated != column.generated:
        raise InvalidParams(
            f"The column {column.name} is generated either in the backup or in {existing.label}, "
            "but not in both. Restore under another name with rename."
        )
    if target_column.is_generated:
        return
    is_proven = request.loads_every_row_as_it_is  # By a digest, which shows any change.
    has_dimensions = target_column.type_name in _DIMENSIONED
    type_differs = {target_column.type_name, column.type.name} not in (
        {target_column.type_name},
        _TEXTS,
    )
    size_differs = target_column.modifier not in (-1, column.type.modifier)
    type_matters = table.stored.form.name == "binary" or not is_proven
    size_matters = column.type.modifier >= 0 if has_dimensions else not is_proven
    if (type_differs and type_matters) or (size_differs and size_matters):
        has_size = has_dimensions and target_column.modifier >= 0
        size = f"({target_column.modifier})" if has_size else ""
        raise InvalidParams(
            f"The column {column.name} of {existing.label} has type "
            f"{target_column.type_name}{size}, but {column.type.text} in the backup: values would "
            "not fit or would change. Restore under another name with rename."
        )


def _check_encoding(manifest: Manifest, target: ServerIdentity) -> None:
    """Raise `InvalidParams` if the target cannot store the bytes of a SQL_ASCII database."""
    if manifest.server.encoding == ENCODING != target.encoding:
        raise InvalidParams(
            f"The set was made from the SQL_ASCII database {manifest.server.database}, whose bytes "
            f"have no known encoding; the database {target.database} has encoding "
            f"{target.encoding}. Restore into a database created with: CREATE DATABASE ... "
            "TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'."
        )


def _check_binary_versions(
    cursor: Cursor, planned: Sequence[PlannedTable], manifest: Manifest, target: ServerIdentity
) -> None:
    """Raise `InvalidParams` if another version may read other values without an error. PostgreSQL
    guarantees the binary format within a major version (COPY, "binary"), pgvector does not."""
    binary = [table for table in planned if table.stored.form.name == "binary"]
    if not binary:
        return
    source = manifest.server
    differences = []
    if source.version_num // 10_000 != target.version_num // 10_000:
        differences.append(f"PostgreSQL {source.version}, the target is {target.version}")
    columns = [column for table in binary for column in table.stored.columns]
    has_vectors = any(column.type.name in _PGVECTOR_TYPES for column in columns)
    if source.pgvector_version and has_vectors:
        version = source.pgvector_version
        target_version = target.pgvector_version or pgvector_to_come(cursor)
        # Patch releases read each other's vectors.
        if target_version and version.split(".")[:2] != target_version.split(".")[:2]:
            differences.append(f"pgvector {version}, the target has {target_version}")
    if differences:
        raise InvalidParams(
            f"{', '.join(table.stored.file for table in binary)} is binary, written by "
            f"{'; and by '.join(differences)}. The binary format is only compatible within a "
            "version. Restore to a server of the same version; or set allow_other_versions: types "
            "and row digests are still compared, and a difference rolls everything back. To move "
            "between versions, back up in format csv."
        )


def _parents_first(planned: Sequence[PlannedTable]) -> list[PlannedTable]:
    """The tables, referenced ones before referencing ones; cycles in any order."""
    ordered: list[PlannedTable] = []
    waiting = list(planned)
    while waiting:
        names = {table.full_name for table in waiting}
        ready = [t for t in waiting if not names & set(_parents(t, planned))] or waiting[:1]
        ordered += ready
        waiting = [table for table in waiting if table not in ready]
    return ordered


def _parents(table: PlannedTable, planned: Iterable[PlannedTable]) -> Iterator[tuple[str, str]]:
    """The other tables that this one's rows reference."""
    if table.existing is not None:
        yield from set(table.existing.references) - {table.full_name}
        return
    keys = table.stored.definition.foreign_keys if table.stored.definition else ()
    named = {key.references.qualified_name for key in keys}
    for other in planned:
        if other is not table and (other.stored.schema, other.stored.name) in named:
            yield other.full_name
