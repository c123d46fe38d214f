"""What a restore reads: the tables of a set that were asked for, checked before anything else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vector_backup_pipeline.engine import older_system
from vector_backup_pipeline.engine.catalog.choice import AskTarget, choose_set
from vector_backup_pipeline.engine.catalog.contents import ManifestSet
from vector_backup_pipeline.engine.errors import (
    IntegrityError,
    InvalidParams,
    ResourceNotFound,
)
from vector_backup_pipeline.engine.formats.row_formats import RowFormat, row_format
from vector_backup_pipeline.engine.manifest import DataFile
from vector_backup_pipeline.engine.storage.contract import BackupDirectory, BackupRoot
from vector_backup_pipeline.engine.stored_files import check_stored_file, contradiction
from vector_backup_pipeline.engine.stored_rows import read_header
from vector_backup_pipeline.engine.table_definition import TableDefinition
from vector_backup_pipeline.engine.timestamps import TimestampFormat
from vector_backup_pipeline.parameters.restore import RestoreParameters
from vector_backup_pipeline.parameters.table_names import TableName, parse_table_name


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
        """What the rows are stored in, and what their digest is taken over."""
        return row_format(self.data.format)

    @property
    def identity(self) -> TableName:
        return TableName(self.schema, self.name)


@dataclass(frozen=True)
class RestoreSource:
    """A set that was found whole, and the tables of it that shall be restored.

    With `latest`, `passed_over` are newer sets that are incomplete or damaged.
    `covered` are partitions that are in the set as tables of their own, while their rows come with
    the partitioned table.
    """

    directory: BackupDirectory
    backup: ManifestSet
    tables: tuple[StoredTable, ...]
    covered: tuple[str, ...]
    passed_over: tuple[str, ...]

    def table(self, name: str) -> StoredTable:
        return next(table for table in self.tables if table.table == name)


def find_source(
    root: BackupRoot,
    timestamps: TimestampFormat,
    request: RestoreParameters,
    ask_target: AskTarget | None,
) -> RestoreSource:
    """Find the set and the tables asked for; nothing of their files is read yet.

    Raises:
        ResourceNotFound: no such directory, set, table in the set, or file.
        InvalidParams, IntegrityError: see `choose_set`.
    """
    directory = _directory(root, request)
    found = choose_set(
        directory,
        timestamps,
        request.timestamp,
        request.tables,
        request.source_database,
        ask_target,
    )
    backup = found.backup
    stored = tuple(
        StoredTable(each.table, each.schema_name, each.name, each.file, each.definition)
        for each in backup.manifest.tables
        if each.file is not None
    )
    chosen = _chosen(stored, request.tables, backup.stamp)
    covered = _covered(chosen)
    tables = tuple(table for table in chosen if table.table not in covered)
    _check_rename(tables, request)
    return RestoreSource(directory, backup, tables, covered, found.passed_over)


def check_source(directory: BackupDirectory, table: StoredTable) -> None:
    """Prove that a stored file is what was written, or what was adopted.

    Raises:
        IntegrityError: it is not, or its entry in the manifest contradicts itself.
    """
    _check_entry(table)
    check_stored_file(directory, table.file, table.size, table.data.sha256)
    _check_header(directory, table)


def _directory(root: BackupRoot, request: RestoreParameters) -> BackupDirectory:
    if request.backup_path is None:
        directory, path = root.find(request.task_id), request.task_id or root.default_path
    else:
        directory, path = root.find_path(request.backup_path), request.backup_path
    if directory is None:
        raise ResourceNotFound(
            f"There is no backup directory {path} under {root.location}. vector-backup list shows "
            "what is there."
        )
    return directory


def _chosen(
    stored: Sequence[StoredTable], wanted: Sequence[str] | None, stamp: str
) -> list[StoredTable]:
    if wanted is None:
        return list(stored)
    chosen = []
    for text in wanted:
        table = find_stored(stored, text)
        if table is None:
            raise ResourceNotFound(
                f"The set {stamp} has no table {text}. It has: "
                f"{', '.join(each.table for each in stored)}."
            )
        if table not in chosen:
            chosen.append(table)
    return chosen


def find_stored(stored: Iterable[StoredTable], text: str) -> StoredTable | None:
    """The table that `text` names: as the backup's caller spelled it, or by its name alone or with
    its schema. A bare name that fits several is none."""
    name = parse_table_name(text)
    stored = list(stored)
    exact = [each for each in stored if parse_table_name(each.table) == name]
    if name.schema is None:
        fitting = exact or [each for each in stored if each.name == name.name]
    else:
        fitting = [each for each in stored if each.identity == name]
    return fitting[0] if len(fitting) == 1 else None


def _covered(chosen: Sequence[StoredTable]) -> tuple[str, ...]:
    places = {(each.schema, each.name) for each in chosen}
    covered = []
    for each in chosen:
        creator = each.definition.created_with if each.definition else None
        if creator is not None and (creator.schema_name, creator.name) in places:
            covered.append(each.table)
    return tuple(covered)


def _check_rename(tables: Sequence[StoredTable], request: RestoreParameters) -> None:
    renamed: dict[str, str] = {}
    for old in request.rename:
        stored = find_stored(tables, old)
        if stored is not None and stored.table in renamed:
            raise InvalidParams(
                f"rename names the table {stored.table} twice, as {renamed[stored.table]!r} and as "
                f"{old!r}. Give it one new name."
            )
        if stored is not None:
            renamed[stored.table] = old
        else:
            raise InvalidParams(
                f"rename names {old!r}, which is not among the tables to be restored: "
                f"{', '.join(each.table for each in tables)}."
            )


def _check_entry(table: StoredTable) -> None:
    data = table.data
    if (what := contradiction(data)) is not None:
        raise _contradicts(table, what)
    if data.digest.encoding != data.format:
        raise _contradicts(
            table, f"its digest is over {data.digest.encoding}, its rows are {data.format}"
        )


def _check_header(directory: BackupDirectory, table: StoredTable) -> None:
    """Columns in another order could take each other's values, and the digest would not tell."""
    columns = table.data.digest.columns
    if table.data.has_digest:
        is_right = read_header(directory, table.data) == table.form.header(columns)
    else:
        is_right = older_system.read_header(directory, table.file) == tuple(columns)
    if not is_right:
        raise _contradicts(table, "its columns are not those of the file's header")


def _contradicts(table: StoredTable, what: str) -> IntegrityError:
    return IntegrityError(
        f"The manifest's entry of {table.file} contradicts itself: {what}. The manifest was "
        "changed after it was written; restore another set."
    )
