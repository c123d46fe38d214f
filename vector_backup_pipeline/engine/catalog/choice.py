"""The backup set that a caller means: by its timestamp, or the latest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from vector_backup_pipeline.engine.catalog.contents import (
    BackupSet,
    Contents,
    DamagedSet,
    ManifestSet,
    read_contents,
)
from vector_backup_pipeline.engine.catalog.sources import (
    SourceDatabase,
    listed_sources,
    source_named,
)
from vector_backup_pipeline.engine.errors import (
    IntegrityError,
    InvalidParams,
    Problem,
    ResourceNotFound,
    parameter_error,
)
from vector_backup_pipeline.engine.manifest import TableBackup
from vector_backup_pipeline.engine.storage.contract import BackupDirectory
from vector_backup_pipeline.engine.timestamps import TimestampFormat
from vector_backup_pipeline.parameters.types import LATEST

# The database that a restore writes to. Called only if the sets alone don't decide.
AskTarget = Callable[[], SourceDatabase]

_SHOWN = 5


@dataclass(frozen=True)
class ChosenSet:
    """`passed_over` are the timestamps of newer sets that are incomplete or damaged."""

    backup: ManifestSet
    passed_over: tuple[str, ...] = ()


def choose_set(
    directory: BackupDirectory,
    timestamps: TimestampFormat,
    timestamp: str,
    tables: Sequence[str] | None,
    source_database: str | None = None,
    ask_target: AskTarget | None = None,
) -> ChosenSet:
    """The set with that timestamp; for `latest`, the newest complete set that has all `tables`.

    `latest` is taken from the sets of `source_database` if given, else of the only database with
    sets in the directory, else of the one that `ask_target` returns. An incomplete set is chosen
    only by its timestamp and with `tables`.

    Raises:
        InvalidParams: the timestamp is malformed; `latest` is ambiguous, or lacks the rows of a
            table that the run of an earlier set truncated.
        ResourceNotFound: there is no such set.
        IntegrityError: its manifest is damaged, it is incomplete, or has lost a file.
    """
    check_timestamp(timestamps, timestamp)
    contents = read_contents(directory, timestamps)
    if timestamp == LATEST:
        chosen = _latest(contents, tables, source_database, ask_target)
    else:
        chosen = ChosenSet(_set_at(contents, timestamp, tables, source_database))
    for table in chosen.backup.stored_tables if tables is None else _named(chosen.backup, tables):
        if table.file is not None and table.file.name not in contents.sizes:
            raise IntegrityError(
                f"The set {chosen.backup.stamp} in {directory.location} has lost its file "
                f"{table.file.name}. Put the file back, or choose another set."
            )
    return chosen


def check_timestamp(timestamps: TimestampFormat, timestamp: str) -> None:
    """Raise `InvalidParams` unless a set can have that timestamp, or it is `latest`."""
    if timestamp != LATEST and not timestamps.is_stamp(timestamp):
        text = (
            f"is {timestamp[:40]!r}, which is not valid: give that of a backup set, such as "
            f"{timestamps.stamp(timestamps.now())}, or {LATEST}."
        )
        raise parameter_error([Problem(("timestamp",), text)])


def _set_at(
    contents: Contents, stamp: str, tables: Sequence[str] | None, source_database: str | None
) -> ManifestSet:
    where = contents.directory.location
    backup = contents.backup_set(stamp)
    if backup is None:
        raise ResourceNotFound(f"{_why_no_set(contents, stamp)} {_existing_sets(contents)}")
    if isinstance(backup, DamagedSet):
        raise backup.error
    if source_database not in (None, backup.source.name, backup.source.qualified):
        raise ResourceNotFound(
            f"The set {stamp} in {where} is a backup of the database {backup.source.qualified}, "
            f"not of {source_database!r}. Choose a set of that database, or leave source_database "
            "out."
        )
    if not backup.complete and not tables:
        stored = ", ".join(table.table for table in backup.stored_tables)
        raise IntegrityError(
            f"The set {stamp} in {where} is incomplete: it has only {stored or 'no table'}. "
            "Choose another set, or name the tables to take from this one."
        )
    return backup


def _named(backup: ManifestSet, tables: Sequence[str]) -> list[TableBackup]:
    return [table for text in tables for table in backup.tables_named(text)]


def _why_no_set(contents: Contents, stamp: str) -> str:
    where = contents.directory.location
    if stamp in contents.tombstones:
        return f"The set {stamp} in {where} is being removed by a prune."
    if contents.runs.get(stamp):
        return f"{stamp} in {where} is not a backup set yet: its run is active. Wait for it."
    if contents.adoptable_pair(stamp):
        return (
            f"{stamp} in {where} is a pair of the older system's files, without a manifest. To "
            f"make it a backup set: vector-backup adopt --timestamp {stamp} (with --task-id for a "
            "task's)."
        )
    return f"There is no backup set {stamp} in {where}."


def _existing_sets(contents: Contents) -> str:
    """The newest sets, and the command for the older system's files."""
    stamps = sorted(contents.manifests, reverse=True)
    shown = ", ".join([*stamps[:_SHOWN], *(["…"] if len(stamps) > _SHOWN else [])])
    sets = f"Existing sets, newest first: {shown}." if stamps else "It has no backup sets."
    if any(contents.adoptable_pair(stamp) for stamp in contents.data_files):
        return f"{sets} vector-backup adopt --all makes sets of the older system's files there."
    return sets


class _Candidates:
    """The sets of a directory, as far as `latest` depends on them.

    `newest` are the newest complete sets with all tables, by their source database; `lacking` are
    sources with complete sets that don't have all tables. `emptied` are tables with rows in a set
    whose run then truncated them.
    """

    def __init__(self, contents: Contents, tables: Sequence[str] | None) -> None:
        self.newest: dict[SourceDatabase, ManifestSet] = {}
        self.incomplete: list[tuple[datetime, str, SourceDatabase]] = []
        self.damaged: list[DamagedSet] = []
        self.lacking: set[SourceDatabase] = set()
        self.emptied: list[_Emptied] = []
        for backup in contents.sets():
            if isinstance(backup, DamagedSet):
                self.damaged.append(backup)
                continue
            source = backup.source
            self.emptied += [
                _Emptied(backup.created_at, backup.stamp, source, t.schema_name, t.name)
                for t in backup.emptied
            ]
            if not backup.complete:
                self.incomplete.append((*age(backup), source))
            elif not all(backup.tables_named(text) for text in tables or ()):
                self.lacking.add(source)
            elif source not in self.newest or age(backup) > age(self.newest[source]):
                self.newest[source] = backup

    @property
    def sources(self) -> set[SourceDatabase]:
        """The databases that may be meant. One with incomplete sets alone is backed up here too."""
        return self.newest.keys() | {source for *_, source in self.incomplete}


@dataclass(frozen=True)
class _Emptied:
    created_at: datetime
    stamp: str
    source: SourceDatabase
    schema_name: str
    name: str


def age(backup: BackupSet) -> tuple[datetime, str]:
    """By what sets are ordered: the later, the greater."""
    return backup.created_at, backup.stamp


def _latest(
    contents: Contents,
    tables: Sequence[str] | None,
    source_database: str | None,
    ask_target: AskTarget | None,
) -> ChosenSet:
    where = contents.directory.location
    candidates = _Candidates(contents, tables)
    source = _source(candidates, where, source_database, ask_target)
    latest = candidates.newest.get(source) if source is not None else None
    if latest is None and candidates.damaged and not candidates.sources | candidates.lacking:
        raise max(candidates.damaged, key=age).error
    if latest is None:
        of = f" of the database {source.name}" if source else ""
        having = f" that has {' and '.join(tables)}" if tables else ""
        raise ResourceNotFound(
            f"There is no complete backup set{of}{having} in {where}. {_existing_sets(contents)}"
        )
    _check_emptied(latest, candidates, tables)
    # A damaged set may be of any database.
    unusable = [age(backup) for backup in candidates.damaged]
    unusable += [(created, stamp) for created, stamp, of in candidates.incomplete if of == source]
    newer = sorted(each for each in unusable if each > age(latest))
    return ChosenSet(latest, tuple(stamp for _, stamp in newer))


def _source(
    candidates: _Candidates, where: str, source_database: str | None, ask_target: AskTarget | None
) -> SourceDatabase | None:
    sources = candidates.sources
    if source_database is not None:
        return source_named(source_database, sources | candidates.lacking, where)
    if len(sources) <= 1 or not candidates.newest:
        return next(iter(sources), None)
    target = ask_target() if ask_target is not None else None
    if target in candidates.newest:
        return target
    no_set = f", but no complete one of the target {target.qualified}" if target else ""
    raise InvalidParams(
        f"latest is ambiguous: {where} has sets of several databases ({listed_sources(sources)})"
        f"{no_set}. Give one of them as source_database, or the timestamp of a set."
    )


def _check_emptied(
    latest: ManifestSet, candidates: _Candidates, tables: Sequence[str] | None
) -> None:
    """The newest set may show a table as its database is since a run truncated it: empty."""
    wanted = latest.stored_tables if tables is None else _named(latest, tables)
    empty = {(t.schema_name, t.name) for t in wanted if t.file is not None and t.file.rows == 0}
    for table in sorted(candidates.emptied, key=lambda table: table.created_at, reverse=True):
        is_earlier = table.created_at < latest.created_at and table.source == latest.source
        if is_earlier and (table.schema_name, table.name) in empty:
            name = f"{table.schema_name}.{table.name}"
            raise InvalidParams(
                f"The latest set {latest.stamp} has no rows of {name}: the run of {table.stamp} "
                f"truncated that table, and its set has the rows. Give timestamp {table.stamp} to "
                f"restore them, or {latest.stamp} to restore the empty table."
            )
