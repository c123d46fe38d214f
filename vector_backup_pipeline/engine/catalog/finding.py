"""The one set that a caller means: by its timestamp, or the latest."""

from __future__ import annotations

from collections.abc import Sequence

from vector_backup_pipeline.engine.catalog.latest import AskTarget, ChosenSet, find_latest
from vector_backup_pipeline.engine.catalog.sets import (
    Contents,
    DamagedSet,
    ManifestSet,
    has_file,
    is_named,
    look_into,
    tables_with_file,
    what_is_there,
)
from vector_backup_pipeline.engine.errors import (
    IntegrityError,
    Problem,
    ResourceNotFound,
    parameter_error,
)
from vector_backup_pipeline.engine.results import FailedTable
from vector_backup_pipeline.engine.storage.contract import BackupDirectory
from vector_backup_pipeline.engine.timestamps import TimestampFormat
from vector_backup_pipeline.parameters.table_names import parse_table_name
from vector_backup_pipeline.parameters.types import LATEST


def find_set(
    directory: BackupDirectory,
    timestamps: TimestampFormat,
    timestamp: str,
    tables: Sequence[str] | None,
) -> ManifestSet:
    """The set that `choose_set` chooses, where the sets alone decide."""
    return choose_set(directory, timestamps, timestamp, tables, None, None).backup


def choose_set(
    directory: BackupDirectory,
    timestamps: TimestampFormat,
    timestamp: str,
    tables: Sequence[str] | None,
    source_database: str | None,
    ask_target: AskTarget | None,
) -> ChosenSet:
    """The set of that timestamp, or with `latest` as `find_latest`.

    An incomplete set is given only when it and the `tables` to take from it are both named.

    Raises:
        InvalidParams: the timestamp is malformed; or see `find_latest`.
        ResourceNotFound: no such set, a table is not in an incomplete one, or it is of another
            source database.
        IntegrityError: the set's manifest is damaged, or a table or file is missing that should
            be there.
    """
    check_timestamp(timestamps, timestamp)
    contents = look_into(directory, timestamps)
    if timestamp == LATEST:
        found = find_latest(contents, tables, source_database, ask_target)
    else:
        found = ChosenSet(_by_stamp(contents, timestamp), ())
        source = found.backup.source
        if source_database not in (None, source.name, source.qualified):
            raise ResourceNotFound(
                f"The set {timestamp} in {directory.location} is of the database "
                f"{source.qualified}, not of {source_database!r}. Give one of that database, or "
                "leave source_database out."
            )
        if not found.backup.complete:
            _check_tables_of_incomplete(contents, found.backup, tables)
    _check_files(contents, found.backup, tables)
    return found


def check_timestamp(timestamps: TimestampFormat, timestamp: str) -> None:
    """Raise `InvalidParams` if a set can't be named so."""
    if timestamp != LATEST and not timestamps.is_stamp(timestamp):
        text = (
            f"is {timestamp[:40]!r}, which is not valid: give that of a backup set, such as "
            f"{timestamps.stamp(timestamps.now())}, or {LATEST}."
        )
        raise parameter_error([Problem(("timestamp",), text)])


def _by_stamp(contents: Contents, stamp: str) -> ManifestSet:
    found = contents.backup_set(stamp)
    if found is None:
        raise _not_found(contents, stamp)
    if isinstance(found, DamagedSet):
        raise found.error
    return found


def _not_found(contents: Contents, stamp: str) -> ResourceNotFound:
    where = contents.directory.location
    state = contents.state_without_manifest(stamp)
    files = sorted(name for name in contents.names if f"_{stamp}." in name)
    message = f"There is no backup set {stamp} in {where}."
    if state == "running":
        message = f"{stamp} in {where} is not a backup set yet: its run is active. Wait for it."
    elif state == "removed":
        message = (
            f"{stamp} in {where} is no longer a backup set: a prune is removing it. If that prune "
            "was interrupted, the next one finishes it."
        )
    elif state == "adoptable":
        message = (
            f"{stamp} in {where} is a pair of the older system's files, without a manifest. To "
            f"make it a backup set: vector-backup adopt --timestamp {stamp} (with --task-id for a "
            "task's)."
        )
    elif files:
        message = (
            f"{stamp} in {where} is not a backup set: a dead run or an interrupted prune left "
            f"{', '.join(files)}, which can't be restored."
        )
    return ResourceNotFound(f"{message} {what_is_there(contents)}")


def _check_tables_of_incomplete(
    contents: Contents, backup: ManifestSet, tables: Sequence[str] | None
) -> None:
    if not tables:
        raise IntegrityError(
            f"The set {backup.stamp} in {contents.directory.location} is incomplete: "
            f"{_what_it_lacks(backup)}. Name the tables to take from it all the same "
            f"({', '.join(tables_with_file(backup))}), or another set."
        )
    for text in tables:
        _check_table_of_incomplete(backup, text)


def _check_table_of_incomplete(backup: ManifestSet, text: str) -> None:
    if has_file(backup, text):
        return
    failure = _failure_of(backup, text)
    if failure is not None:
        raise IntegrityError(
            f"The set {backup.stamp} is incomplete, and has no file of {text}: its export failed "
            f"({failure}). Take it from another set."
        )
    raise ResourceNotFound(
        f"The set {backup.stamp} is incomplete, and has no table {text}. It has: "
        f"{', '.join(tables_with_file(backup)) or 'none'}."
    )


def _what_it_lacks(backup: ManifestSet) -> str:
    failed = [
        name
        for name, entry in backup.manifest.result.tables_backed_up.items()
        if isinstance(entry, FailedTable)
    ]
    return f"the export of {', '.join(failed)} failed" if failed else "its run was stopped"


def _failure_of(backup: ManifestSet, text: str) -> str | None:
    """Why the set has no file of that table, as far as its run knew of it."""
    for table in backup.manifest.tables:
        if is_named(text, table):
            return table.error or "its run was stopped"
    for name, entry in backup.manifest.result.tables_backed_up.items():
        if isinstance(entry, FailedTable) and parse_table_name(name) == parse_table_name(text):
            return f"{entry.error_type}: {entry.error}"
    return None


def _check_files(contents: Contents, backup: ManifestSet, tables: Sequence[str] | None) -> None:
    for table in backup.manifest.tables:
        wanted = tables is None or any(is_named(text, table) for text in tables)
        if wanted and table.file is not None and table.file.name not in contents.names:
            raise IntegrityError(
                f"The set {backup.stamp} in {contents.directory.location} has lost its file "
                f"{table.file.name}. Put the file back, or name another set."
            )
