"""The choice of a backup set: by its timestamp, or the latest."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vector_backup_pipeline.engine import errors
from vector_backup_pipeline.engine.catalog.contents import (
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
from vector_backup_pipeline.engine.catalog.stored_sets import StoredSet, stored_set, stored_sets
from vector_backup_pipeline.engine.results import FileState
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.timestamps import TimestampFormat
from vector_backup_pipeline.parameters.types import LATEST

# Returns the database that a restore writes to. Called only if the sets alone are ambiguous.
AskTarget = Callable[[], SourceDatabase]

_SHOWN = 5
_WHY_NO_SET: dict[FileState, str] = {
    "running": " yet: its run is active",
    "removed": ": it is being removed by a prune",
    "adoptable": ", but a pair of the older system's files. To make it a backup set: vector-backup "
    "adopt --timestamp {} (with --task-id for a task's)",
    "orphan": "",
}


@dataclass(frozen=True)
class ChosenSet:
    """A set, and the directory's `contents` that it was chosen from. `passed_over` are the
    timestamps of newer sets that are incomplete or damaged."""

    backup: ManifestSet
    contents: Contents
    passed_over: tuple[str, ...] = ()


def choose_set(
    directory: BackupDirectory,
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
    check_timestamp(directory.timestamps, timestamp)
    contents = read_contents(directory)
    if timestamp == LATEST:
        chosen = _latest(contents, tables, source_database, ask_target)
    else:
        chosen = ChosenSet(_set_at(contents, timestamp, tables, source_database), contents)
    stored = stored_set(contents, chosen.backup)
    for file in stored.files_of(tables):
        if file.stored_bytes is None:
            raise errors.IntegrityError(
                f"The set {stored.stamp} in {directory.location} has lost its file {file.name}. "
                "Put the file back, or choose another set."
            )
    return chosen


def check_timestamp(
    timestamps: TimestampFormat,
    timestamp: str | None,
    *,
    key: str = "timestamp",
    may_be_latest: bool = True,
) -> None:
    """Raise `InvalidParams`, about the parameter `key`, unless a set can have that timestamp."""
    if timestamp is None or (may_be_latest and timestamp == LATEST):
        return
    if not timestamps.is_stamp(timestamp):
        example = timestamps.stamp(timestamps.now())
        examples = f"{example}, or {LATEST}" if may_be_latest else example
        text = f"is {timestamp[:40]!r}, which is not valid: give one such as {examples}."
        raise errors.parameter_error([errors.Problem((key,), text)])


def _set_at(
    contents: Contents, stamp: str, tables: Sequence[str] | None, source_database: str | None
) -> ManifestSet:
    location = contents.directory.location
    backup = contents.backup_set(stamp)
    if backup is None:
        raise no_such_set(contents, stamp)
    if isinstance(backup, DamagedSet):
        raise backup.error
    if source_database not in (None, backup.source.name, backup.source.qualified):
        raise errors.ResourceNotFound(
            f"The set {stamp} in {location} is a backup of the database {backup.source.qualified}, "
            f"not of {source_database!r}. Choose a set of that database, or leave source_database "
            "out."
        )
    if not backup.manifest.complete and not tables:
        stored = ", ".join(file.table for file in stored_set(contents, backup).files)
        raise errors.IntegrityError(
            f"The set {stamp} in {location} is incomplete: it has only {stored or 'no table'}. "
            "Choose another set, or name the tables to take from this one."
        )
    return backup


def no_such_set(contents: Contents, stamp: str) -> errors.ResourceNotFound:
    """The error if there is no set with that timestamp, or no complete one for `latest`."""
    reason = _WHY_NO_SET[contents.state_without_set(stamp)].format(stamp)
    name = "complete backup set" if stamp == LATEST else f"backup set {stamp}"
    return errors.ResourceNotFound(
        f"There is no {name} in {contents.directory.location}{reason}. {_existing_sets(contents)}"
    )


def _existing_sets(contents: Contents) -> str:
    """The newest sets, and the command for the older system's files."""
    stamps = sorted(contents.manifests, reverse=True)
    shown = ", ".join([*stamps[:_SHOWN], *(["…"] if len(stamps) > _SHOWN else [])])
    sets = f"Existing sets, newest first: {shown}." if stamps else "It has no backup sets."
    if any(contents.adoptable_pair(stamp) for stamp in contents.data_files):
        return f"{sets} vector-backup adopt --all makes sets of the older system's files there."
    return sets


def _latest(
    contents: Contents,
    tables: Sequence[str] | None,
    source_database: str | None,
    ask_target: AskTarget | None,
) -> ChosenSet:
    location = contents.directory.location
    sets = stored_sets(contents, with_verdicts=False)
    if sets and all(stored.source is None for stored in sets):
        newest = contents.backup_set(sets[0].stamp)
        if isinstance(newest, DamagedSet):
            raise newest.error
    complete = [s for s in sets if s.is_usable]
    with_tables = [s for s in complete if all(map(s.files_named, tables or ()))]
    source = _source(sets, with_tables, location, source_database, ask_target)
    latest = next((backup_set for backup_set in with_tables if backup_set.source == source), None)
    if latest is None:
        of_source = f" of the database {source.name}" if source else ""
        with_all = f" that has {' and '.join(tables)}" if tables else ""
        raise errors.ResourceNotFound(
            f"There is no complete backup set{of_source}{with_all} in {location}. "
            f"{_existing_sets(contents)}"
        )
    _check_emptied(latest, sets, tables)
    # A damaged set may belong to any database.
    unusable = [s for s in sets if not s.is_usable and s.source in (None, source)]
    newer = [backup_set.stamp for backup_set in reversed(unusable) if backup_set.age > latest.age]
    return ChosenSet(_set_at(contents, latest.stamp, tables, None), contents, tuple(newer))


def _source(
    sets: Sequence[StoredSet],
    with_tables: Sequence[StoredSet],
    location: str,
    source_database: str | None,
    ask_target: AskTarget | None,
) -> SourceDatabase | None:
    """The database that `latest` is taken from."""
    if source_database is not None:
        sources = {backup_set.source for backup_set in sets if backup_set.source is not None}
        return source_named(source_database, sources, location)
    usable = {backup_set.source for backup_set in with_tables if backup_set.source is not None}
    # A database that has only incomplete sets is also backed up here.
    sources = usable | {s.source for s in sets if s.source is not None and not s.is_usable}
    if len(sources) <= 1 or not usable:
        return next(iter(sources), None)
    target = ask_target() if ask_target is not None else None
    if target in usable:
        return target
    no_set = f", but no complete one of the target {target.qualified}" if target else ""
    raise errors.InvalidParams(
        f"latest is ambiguous: {location} has sets of several databases ({listed_sources(sources)})"
        f"{no_set}. Give one of them as source_database, or the timestamp of a set."
    )


def _check_emptied(
    latest: StoredSet, sets: Sequence[StoredSet], tables: Sequence[str] | None
) -> None:
    """A backup of a table that an earlier set's run truncated has no rows: the earlier set has
    them."""
    empty = {file.identity for file in latest.files_of(tables) if file.rows == 0}
    for backup_set in sets:
        is_older = backup_set.created_at < latest.created_at
        is_earlier = is_older and backup_set.source == latest.source
        for file in backup_set.emptied if is_earlier else ():
            if file.identity in empty:
                raise errors.InvalidParams(
                    f"The latest set {latest.stamp} has no rows of {'.'.join(file.identity)}: the "
                    f"run of {backup_set.stamp} truncated that table, and its set has the rows. "
                    f"Give timestamp {backup_set.stamp} to restore them, or {latest.stamp} to "
                    "restore the empty table."
                )
