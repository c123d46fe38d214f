"""The source of a restore: the requested tables of a set, checked before anything else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from vector_backup_pipeline.engine import older_system
from vector_backup_pipeline.engine.catalog.choice import (
    AskTarget,
    ChosenSet,
    check_timestamp,
    choose_set,
)
from vector_backup_pipeline.engine.catalog.contents import ManifestSet, future_notices
from vector_backup_pipeline.engine.catalog.locations import find_directory
from vector_backup_pipeline.engine.catalog.sources import OLDER_SYSTEM, SourceDatabase
from vector_backup_pipeline.engine.errors import IntegrityError, InvalidParams, ResourceNotFound
from vector_backup_pipeline.engine.formats.row_formats import RowFormat, row_format
from vector_backup_pipeline.engine.incremental.chain import (
    Link,
    Part,
    SelectRows,
    chain_of,
    comparable_links,
    download_keys,
    find_parts,
    links_of,
    reading,
)
from vector_backup_pipeline.engine.incremental.key_files import KeyFiles
from vector_backup_pipeline.engine.manifest import DataFile, TableBackup
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.engine.stored_files import (
    check_identity,
    check_stored_file,
    contradiction,
    read_header,
)
from vector_backup_pipeline.engine.table_definition import Column, TableDefinition
from vector_backup_pipeline.parameters.restore import RestoreParameters
from vector_backup_pipeline.parameters.table_names import TableName, parse_table_name
from vector_backup_pipeline.parameters.types import LATEST


@dataclass(frozen=True)
class StoredTable:
    """A table of the set: in the sets of its chain, newest first, and as the parts of their files
    to load."""

    links: tuple[Link, ...]
    parts: tuple[Part, ...]

    @classmethod
    def of(cls, links: tuple[Link, ...]) -> StoredTable:
        """With the parts of a full set; those of a chain are known when its key files are read."""
        return cls(links, tuple(Part(link.data, link.data.rows) for link in links))

    @property
    def table(self) -> str:
        return self._backup.table

    @property
    def schema(self) -> str:
        return self._backup.schema_name

    @property
    def name(self) -> str:
        return self._backup.name

    @property
    def data(self) -> DataFile:
        """The file of the set itself."""
        return self.links[0].data

    @property
    def definition(self) -> TableDefinition | None:
        """None for a file of the older system."""
        return self._backup.definition

    @property
    def file(self) -> str:
        return self.data.name

    @property
    def size(self) -> int:
        """Of all files to load, in bytes."""
        return sum(part.data.bytes for part in self.parts)

    @property
    def rows(self) -> int:
        """The number of rows to load."""
        return sum(part.rows for part in self.parts)

    @property
    def digest(self) -> str | None:
        """The content digest of all live rows."""
        return self._backup.digest

    @property
    def _backup(self) -> TableBackup:
        return self.links[0].table

    @property
    def form(self) -> RowFormat:
        """The form in which the rows are stored, and over which their digest is taken."""
        return row_format(self.data.format)

    @property
    def columns(self) -> Sequence[Column]:
        return self.definition.columns if self.definition else ()


@dataclass(frozen=True)
class RestoreSource:
    """A set without missing files, and the tables of it to restore. `later` is the set that it is
    compared with to find the rows to restore.

    `covered` are requested partitions whose partitioned table is also requested, and has their
    rows. With `latest`, `passed_over` are newer sets that are incomplete or
    damaged. `new_names` are those in `rename`, by table.
    """

    directory: BackupDirectory
    backup: ManifestSet
    tables: tuple[StoredTable, ...]
    covered: tuple[str, ...]
    passed_over: tuple[str, ...]
    new_names: Mapping[str, str]
    later: ManifestSet | None = None

    def table(self, name: str) -> StoredTable:
        return next(table for table in self.tables if table.table == name)

    def check_files(self, request: RestoreParameters) -> RestoreSource:
        """Check that the stored files are unchanged since they were written or adopted, those of
        the sets that this one builds on too; and find the rows to restore in them.

        Raises:
            IntegrityError: a file is changed or missing, or its entry in the manifest contradicts
                itself.
            InvalidParams: the rows can't be selected, see `_selection`; or a file can't be
                decrypted, see `check_identity`.
        """
        if request.keys_from is not None and len(self.tables) > 1:
            raise InvalidParams("keys_from has the keys of one table: name it in tables.")
        return replace(self, tables=tuple(self._checked(t, request) for t in self.tables))

    def _checked(self, table: StoredTable, request: RestoreParameters) -> StoredTable:
        select = self._selection(table, request.keys_from)
        for link in table.links:
            with reading(table.links, link):
                check_identity(self.directory, link.data)
        for link in table.links:
            with reading(table.links, link):
                _check_file(self.directory, link.data)
        return replace(table, parts=find_parts(self.directory, table.links, select))

    def _selection(self, table: StoredTable, keys_from: str | None) -> SelectRows | None:
        """How to select rows: those whose keys are in the file `keys_from`, or those that the set
        `later` lacks or has with other values; None selects all. Raises `InvalidParams` if the keys
        of the rows are unknown or cannot be compared."""
        later = self.later
        if keys_from is None and later is None:
            return None
        _, newer = comparable_links(self.backup, later or self.backup, table.schema, table.name)
        keys_file = Path(keys_from or "")
        if keys_from is not None and not keys_file.is_file():
            raise InvalidParams(f"keys_from names {keys_file}, which is not a file.")
        if keys_from is not None and not keys_file.stat().st_size:
            raise InvalidParams(f"keys_from names {keys_file}, which is empty.")

        def select(keys: KeyFiles, own_keys: Path) -> Path:
            selected = keys.directory / "selected.parquet"
            if later is None:
                keys.matching(own_keys, keys_file, selected)
            else:
                newer_keys = download_keys(self.directory, newer, keys)
                keys.removed_since(own_keys, newer_keys, selected)
            return selected

        return select

    def notices(self, request: RestoreParameters, now: datetime) -> Iterator[str]:
        for table in self.covered:
            yield f"{table} is a partition; its rows come with the partitioned table."
        if request.timestamp != LATEST:
            return
        backup = self.later or self.backup
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
    root: BackupRoot, request: RestoreParameters, ask_target: AskTarget | None
) -> RestoreSource:
    """Find the set and the requested tables; their files are not read yet.

    Raises:
        ResourceNotFound: no such directory, set, table in the set, or file.
        InvalidParams, IntegrityError: see `choose_set`.
    """
    directory = find_directory(root, request.backup_path, request.task_id)
    chosen = choose_set(
        directory, request.timestamp, request.tables, request.source_database, ask_target
    )
    passed_over, later = chosen.passed_over, None
    if request.where_removed_since is not None:
        later = chosen.backup
        chosen = _earlier(directory, request, request.where_removed_since, later)
    chain = chain_of(chosen.contents, chosen.backup)
    requested = _requested(chain, request.tables)
    names = {(table.schema, table.name) for table in requested}
    covered = tuple(
        table.table
        for table in requested
        if table.definition
        and (creator := table.definition.created_with)
        and (creator.schema_name, creator.name) in names
    )
    tables = tuple(table for table in requested if table.table not in covered)
    return RestoreSource(
        directory,
        chosen.backup,
        tables,
        covered,
        passed_over,
        _new_names(tables, request),
        later,
    )


def _earlier(
    directory: BackupDirectory, request: RestoreParameters, stamp: str, later: ManifestSet
) -> ChosenSet:
    check_timestamp(directory.timestamps, stamp, key="where_removed_since", may_be_latest=False)
    chosen = choose_set(directory, stamp, request.tables)
    earlier = chosen.backup
    if earlier.source != later.source or earlier.created_at >= later.created_at:
        raise InvalidParams(
            f"where_removed_since is {stamp}, which is not an earlier set of the same database as "
            f"{later.stamp}. The rows come from the earlier set; timestamp is the later one."
        )
    return chosen


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


def _requested(chain: Sequence[ManifestSet], names: Sequence[str] | None) -> list[StoredTable]:
    backup = chain[0]
    stored = [
        StoredTable.of(links_of(chain, table))
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


def _new_names(tables: Sequence[StoredTable], request: RestoreParameters) -> dict[str, str]:
    old_names: dict[str, str] = {}
    for old in request.rename:
        stored = find_stored(tables, old)
        if stored is None:
            raise InvalidParams(
                f"rename names {old!r}, which is not among the tables to be restored: "
                f"{', '.join(table.table for table in tables)}."
            )
        if stored.table in old_names:
            raise InvalidParams(
                f"rename names the table {stored.table} twice, as {old_names[stored.table]!r} and "
                f"as {old!r}. Give it one new name."
            )
        old_names[stored.table] = old
    return {table: request.rename[old] for table, old in old_names.items()}


def _check_file(directory: BackupDirectory, data: DataFile) -> None:
    columns = data.digest.columns
    if (reason := contradiction(data)) is not None:
        raise _contradicts(data, reason)
    if data.digest.encoding != data.format:
        raise _contradicts(
            data, f"its digest is over {data.digest.encoding}, its rows are {data.format}"
        )
    check_stored_file(directory, data)
    # Columns in another order could take each other's values, which the digest would not show.
    if data.has_digest:
        is_right = read_header(directory, data) == row_format(data.format).header(columns)
    else:
        is_right = older_system.read_header(directory, data.name) == tuple(columns)
    if not is_right:
        raise _contradicts(data, "its columns are not those of the file's header")


def _contradicts(data: DataFile, reason: str) -> IntegrityError:
    return IntegrityError(
        f"The manifest's entry of {data.name} contradicts itself: {reason}. The manifest was "
        "changed after it was written; restore another set."
    )
