"""The one set that a caller means: by its timestamp, or the latest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from vector_backup_pipeline.engine.catalog.sets import (
    Contents,
    DamagedSet,
    ManifestSet,
    OlderSet,
    age,
    look_into,
    older_header,
)
from vector_backup_pipeline.engine.errors import IntegrityError, InvalidParams, ResourceNotFound
from vector_backup_pipeline.engine.manifest import TableBackup
from vector_backup_pipeline.engine.parameters import parse_table_name
from vector_backup_pipeline.engine.results import FailedTable
from vector_backup_pipeline.engine.storage.contract import BackupDirectory
from vector_backup_pipeline.engine.timestamps import TimestampFormat

LATEST = "latest"

_SHOWN = 5


def find_set(
    directory: BackupDirectory,
    timestamps: TimestampFormat,
    timestamp: str,
    tables: Sequence[str] | None,
) -> ManifestSet | OlderSet:
    """The set of that timestamp, or with `latest` the newest complete one by creation in UTC.

    An incomplete set is given only when it and the `tables` to take from it are both named.

    Raises:
        InvalidParams: the timestamp is malformed; or a table is empty in the latest set because
            the run of an earlier one emptied it.
        ResourceNotFound: no such set, or a table is not in an incomplete one.
        IntegrityError: the set's manifest is damaged, or a table or file is missing that should
            be there.
    """
    check_timestamp(timestamps, timestamp)
    contents = look_into(directory, timestamps)
    if timestamp == LATEST:
        found = _latest(contents, tables)
    else:
        found = _by_stamp(contents, timestamp)
        if not found.complete:
            _check_tables_of_incomplete(contents, found, tables)
    _check_files(contents, found, tables)
    return found


def check_timestamp(timestamps: TimestampFormat, timestamp: str) -> None:
    """Raise `InvalidParams` if a set can't be named so."""
    if timestamp != LATEST and not timestamps.is_stamp(timestamp):
        raise InvalidParams(
            f"The timestamp {timestamp!r} is not valid: give that of a backup set, such as "
            f"{timestamps.stamp(timestamps.now())}, or {LATEST}."
        )


def _by_stamp(contents: Contents, stamp: str) -> ManifestSet | OlderSet:
    found = contents.backup_set(stamp)
    if found is None:
        raise _not_found(contents, stamp)
    if isinstance(found, DamagedSet):
        raise found.error
    return found


def _not_found(contents: Contents, stamp: str) -> ResourceNotFound:
    where = contents.directory.location
    files = sorted(name for name in contents.names if f"_{stamp}." in name)
    if stamp in contents.alive:
        told = f"{stamp} in {where} is no backup set yet: its run is still at work. Wait for it."
    elif stamp in contents.tombstones:
        told = (
            f"{stamp} in {where} is no backup set any more: a prune is removing it, or was stopped "
            "while it did; the next one finishes that."
        )
    elif files:
        told = (
            f"{stamp} in {where} is no backup set: {', '.join(files)} {_are(files)} what is left "
            "of a run that died or of a removed set, and can't be restored."
        )
    else:
        told = f"There is no backup set {stamp} in {where}."
    return ResourceNotFound(f"{told} {_what_is_there(contents)}")


def _are(files: Sequence[str]) -> str:
    return "is" if len(files) == 1 else "are"


def _what_is_there(contents: Contents) -> str:
    # Not the sets themselves, whose manifests may be many MB each.
    stamps = [stamp for _, stamp in sorted((age(each) for each in contents.sets()), reverse=True)]
    if not stamps:
        return "There is no other set; check task_id or backup_path."
    more = ", …" if len(stamps) > _SHOWN else ""
    return f"Sets that are there, newest first: {', '.join(stamps[:_SHOWN])}{more}."


def _latest(contents: Contents, tables: Sequence[str] | None) -> ManifestSet | OlderSet:
    newest: ManifestSet | OlderSet | None = None
    emptied: list[_Emptied] = []
    for each in contents.sets():
        if isinstance(each, DamagedSet):
            continue
        if isinstance(each, ManifestSet):
            emptied += _emptied_by(each)
        if each.complete and (newest is None or age(each) > age(newest)):
            newest = each
    if newest is None:
        raise ResourceNotFound(
            f"There is no complete backup set in {contents.directory.location}. "
            f"{_what_is_there(contents)}"
        )
    _check_emptied(contents, newest, emptied, tables)
    return newest


@dataclass(frozen=True)
class _Emptied:
    """A table with rows in a set whose run then truncated it, or may have."""

    backup: str
    created_at: datetime
    schema: str
    name: str


def _emptied_by(backup: ManifestSet) -> Iterator[_Emptied]:
    for table in backup.emptied:
        yield _Emptied(backup.stamp, backup.created_at, table.schema_name, table.name)


def _check_emptied(
    contents: Contents,
    latest: ManifestSet | OlderSet,
    emptied: Sequence[_Emptied],
    tables: Sequence[str] | None,
) -> None:
    for each in sorted(emptied, key=lambda each: each.created_at, reverse=True):
        wanted = tables is None or any(_names(text, each.schema, each.name) for text in tables)
        earlier = each.created_at < latest.created_at
        if wanted and earlier and _is_empty(contents, latest, each.schema, each.name):
            raise InvalidParams(
                f"The latest set {latest.stamp} has no rows of {each.schema}.{each.name}: the run "
                f"of {each.backup} emptied that table, and that set holds its rows. Give "
                f"timestamp {each.backup} to get them, {latest.stamp} if the empty table is meant."
            )


def _is_empty(contents: Contents, backup: ManifestSet | OlderSet, schema: str, name: str) -> bool:
    if isinstance(backup, ManifestSet):
        return any(
            table.file is not None and table.file.rows == 0
            for table in backup.manifest.tables
            if (table.schema_name, table.name) == (schema, name)
        )
    file = backup.files.get(name)
    if file is None:
        return False
    header = older_header(contents.directory, file) or b""
    return contents.directory.size(file) == len(header)


def _check_tables_of_incomplete(
    contents: Contents, backup: ManifestSet | OlderSet, tables: Sequence[str] | None
) -> None:
    if not tables:
        raise IntegrityError(
            f"The set {backup.stamp} in {contents.directory.location} is incomplete: "
            f"{_what_it_lacks(backup)}. Name the tables to take from it all the same "
            f"({', '.join(_tables_with_file(backup))}), or another set."
        )
    for text in tables:
        _check_table_of_incomplete(backup, text)


def _check_table_of_incomplete(backup: ManifestSet | OlderSet, text: str) -> None:
    if _has_file(backup, text):
        return
    failure = _failure_of(backup, text)
    if failure is not None:
        raise IntegrityError(
            f"The set {backup.stamp} is incomplete, and has no file of {text}: its export failed "
            f"({failure}). Take it from another set."
        )
    raise ResourceNotFound(
        f"The set {backup.stamp} is incomplete, and has no table {text}. It has: "
        f"{', '.join(_tables_with_file(backup)) or 'none'}."
    )


def _what_it_lacks(backup: ManifestSet | OlderSet) -> str:
    if isinstance(backup, OlderSet):
        return "of the older system's two files one is missing"
    failed = [
        name
        for name, entry in backup.manifest.result.tables_backed_up.items()
        if isinstance(entry, FailedTable)
    ]
    return f"the export of {', '.join(failed)} failed" if failed else "its run was stopped"


def _tables_with_file(backup: ManifestSet | OlderSet) -> list[str]:
    if isinstance(backup, OlderSet):
        return sorted(backup.files)
    return [table.table for table in backup.manifest.tables if table.file is not None]


def _has_file(backup: ManifestSet | OlderSet, text: str) -> bool:
    if isinstance(backup, OlderSet):
        return parse_table_name(text).name in backup.files
    return any(table.file is not None for table in backup.manifest.tables if _is_named(text, table))


def _failure_of(backup: ManifestSet | OlderSet, text: str) -> str | None:
    """Why the set has no file of that table, as far as its run knew of it."""
    if isinstance(backup, OlderSet):
        return None
    for table in backup.manifest.tables:
        if _is_named(text, table):
            return table.error or "its run was stopped"
    for name, entry in backup.manifest.result.tables_backed_up.items():
        if isinstance(entry, FailedTable) and parse_table_name(name) == parse_table_name(text):
            return f"{entry.error_type}: {entry.error}"
    return None


def _check_files(
    contents: Contents, backup: ManifestSet | OlderSet, tables: Sequence[str] | None
) -> None:
    if isinstance(backup, OlderSet):
        return
    for table in backup.manifest.tables:
        wanted = tables is None or any(_is_named(text, table) for text in tables)
        if wanted and table.file is not None and table.file.name not in contents.names:
            raise IntegrityError(
                f"The set {backup.stamp} in {contents.directory.location} has lost its file "
                f"{table.file.name}. Put the file back, or name another set."
            )


def _is_named(text: str, table: TableBackup) -> bool:
    """Whether `text` means that table: as the backup's caller spelled it, or by its own name."""
    return parse_table_name(text) == parse_table_name(table.table) or _names(
        text, table.schema_name, table.name
    )


def _names(text: str, schema: str, name: str) -> bool:
    wanted = parse_table_name(text)
    return wanted.name == name and wanted.schema in (None, schema)
