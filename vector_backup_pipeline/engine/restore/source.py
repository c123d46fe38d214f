"""The source of a restore: the requested tables of a set, checked before anything else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from vector_backup_pipeline.engine import older_system
from vector_backup_pipeline.engine.catalog.choice import AskTarget, choose_set
from vector_backup_pipeline.engine.catalog.contents import ManifestSet, future_notices
from vector_backup_pipeline.engine.catalog.locations import find_directory
from vector_backup_pipeline.engine.catalog.sources import OLDER_SYSTEM, SourceDatabase
from vector_backup_pipeline.engine.errors import IntegrityError, InvalidParams, ResourceNotFound
from vector_backup_pipeline.engine.formats.row_formats import RowFormat, row_format
from vector_backup_pipeline.engine.manifest import DataFile
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.engine.stored_files import check_stored_file, contradiction, read_header
from vector_backup_pipeline.engine.table_definition import Column, TableDefinition
from vector_backup_pipeline.engine.timestamps import TimestampFormat
from vector_backup_pipeline.parameters.restore import RestoreParameters
from vector_backup_pipeline.parameters.table_names import TableName, parse_table_name
from vector_backup_pipeline.parameters.types import LATEST


@dataclass(frozen=True)
class StoredTable:
    """A table of the set and its file. `definition` is None for a file of the older system."""

    table: str
    schema: str
    name: str
    data: DataFile
    definition: TableDefinition | None

    @property
    def file(self) -> str:
        return self.data.name

    @property
    def size(self) -> int:
        """In bytes."""
        return self.data.bytes

    @property
    def rows(self) -> int:
        return self.data.rows

    @property
    def form(self) -> RowFormat:
        """The form in which the rows are stored, and over which their digest is taken."""
        return row_format(self.data.format)

    @property
    def columns(self) -> Sequence[Column]:
        return self.definition.columns if self.definition else ()


@dataclass(frozen=True)
class RestoreSource:
    """A set without missing files, and the tables of it to restore.

    `covered` are requested partitions whose partitioned table is also requested, and has their
    rows. With `latest`, `passed_over` are newer sets that are incomplete or
    damaged.
    """

    directory: BackupDirectory
    backup: ManifestSet
    tables: tuple[StoredTable, ...]
    covered: tuple[str, ...]
    passed_over: tuple[str, ...]

    def table(self, name: str) -> StoredTable:
        return next(table for table in self.tables if table.table == name)

    def check_files(self) -> None:
        """Check that the stored files are unchanged since they were written or adopted.

        Raises:
            IntegrityError: one is not, or its entry in the manifest contradicts itself.
        """
        for table in self.tables:
            _check_file(self.directory, table)

    def notices(self, request: RestoreParameters, now: datetime) -> Iterator[str]:
        for table in self.covered:
            yield f"{table} is a partition; its rows come with the partitioned table."
        if request.timestamp != LATEST:
            return
        backup = self.backup
        if self.passed_over:
            yield (
                f"Newer than {backup.stamp}, but incomplete or damaged: "
                f"{', '.join(self.passed_over)}. vector-backup verify says what is wrong."
            )
        yield from future_notices(backup.stamp, backup.created_at, now)

    def notices_on_target(
        self, request: RestoreParameters, target: SourceDatabase
    ) -> Iterator[str]:
        """A notice if `latest` is of another database than the target, and the caller did not name
        that database."""
        origin = self.backup.source
        is_by_default = request.timestamp == LATEST and request.source_database is None
        if is_by_default and origin != OLDER_SYSTEM and origin.differs_from(target):
            yield (
                f"The set {self.backup.stamp} is a backup of the database {origin.qualified}, the "
                f"only one with sets there; the target is the database {target.qualified}."
            )


def find_source(
    root: BackupRoot,
    timestamps: TimestampFormat,
    request: RestoreParameters,
    ask_target: AskTarget | None,
) -> RestoreSource:
    """Find the set and the requested tables; their files are not read yet.

    Raises:
        ResourceNotFound: no such directory, set, table in the set, or file.
        InvalidParams, IntegrityError: see `choose_set`.
    """
    directory = find_directory(root, request.backup_path, request.task_id)
    chosen = choose_set(
        directory,
        timestamps,
        request.timestamp,
        request.tables,
        request.source_database,
        ask_target,
    )
    requested = _requested(chosen.backup, request.tables)
    names = {(table.schema, table.name) for table in requested}
    covered = tuple(
        table.table
        for table in requested
        if table.definition
        and (creator := table.definition.created_with)
        and (creator.schema_name, creator.name) in names
    )
    tables = tuple(table for table in requested if table.table not in covered)
    _check_rename(tables, request)
    return RestoreSource(directory, chosen.backup, tables, covered, chosen.passed_over)


def find_stored(stored: Sequence[StoredTable], text: str) -> StoredTable | None:
    """The table that `text` names: as in the backup's parameters, or by `name` or `schema.name`.
    None if there is no such table, or several of that bare name."""
    name = parse_table_name(text)
    exact = [table for table in stored if parse_table_name(table.table) == name]
    if name.schema is None:
        matches = exact or [table for table in stored if table.name == name.name]
    else:
        matches = [table for table in stored if TableName(table.schema, table.name) == name]
    return matches[0] if len(matches) == 1 else None


def _requested(backup: ManifestSet, names: Sequence[str] | None) -> list[StoredTable]:
    stored = [
        StoredTable(table.table, table.schema_name, table.name, table.file, table.definition)
        for table in backup.manifest.tables
        if table.file is not None
    ]
    if names is None:
        return stored
    requested: list[StoredTable] = []
    for text in names:
        table = find_stored(stored, text)
        if table is None:
            raise ResourceNotFound(
                f"The set {backup.stamp} has no table {text}. It has: "
                f"{', '.join(table.table for table in stored)}."
            )
        if table not in requested:
            requested.append(table)
    return requested


def _check_rename(tables: Sequence[StoredTable], request: RestoreParameters) -> None:
    renamed: dict[str, str] = {}
    for old in request.rename:
        stored = find_stored(tables, old)
        if stored is None:
            raise InvalidParams(
                f"rename names {old!r}, which is not among the tables to be restored: "
                f"{', '.join(table.table for table in tables)}."
            )
        if stored.table in renamed:
            raise InvalidParams(
                f"rename names the table {stored.table} twice, as {renamed[stored.table]!r} and as "
                f"{old!r}. Give it one new name."
            )
        renamed[stored.table] = old


def _check_file(directory: BackupDirectory, table: StoredTable) -> None:
    data, columns = table.data, table.data.digest.columns
    if (reason := contradiction(data)) is not None:
        raise _contradicts(table, reason)
    if data.digest.encoding != data.format:
        raise _contradicts(
            table, f"its digest is over {data.digest.encoding}, its rows are {data.format}"
        )
    check_stored_file(directory, table.file, table.size, data.sha256)
    # Columns in another order could take each other's values, which the digest would not show.
    if data.has_digest:
        is_right = read_header(directory, data) == table.form.header(columns)
    else:
        is_right = older_system.read_header(directory, table.file) == tuple(columns)
    if not is_right:
        raise _contradicts(table, "its columns are not those of the file's header")


def _contradicts(table: StoredTable, reason: str) -> IntegrityError:
    return IntegrityError(
        f"The manifest's entry of {table.file} contradicts itself: {reason}. The manifest was "
        "changed after it was written; restore another set."
    )
