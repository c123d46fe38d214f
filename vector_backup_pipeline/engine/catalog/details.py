"""All that is known of one backup set: its state in the list, and what its manifest says."""

from collections.abc import Mapping, Sequence
from typing import Any

from vector_backup_pipeline.engine.catalog.choice import check_timestamp, no_such_set
from vector_backup_pipeline.engine.catalog.contents import DamagedSet, read_contents
from vector_backup_pipeline.engine.catalog.locations import (
    ListedBackup,
    ListedTable,
    find_directory,
    listed_backup,
)
from vector_backup_pipeline.engine.catalog.sources import source_labels
from vector_backup_pipeline.engine.catalog.stored_sets import StoredFile, StoredSet, stored_sets
from vector_backup_pipeline.engine.file_names import LOG_NAME
from vector_backup_pipeline.engine.manifest import TableBackup
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.engine.timestamps import TimestampFormat
from vector_backup_pipeline.parameters.types import LATEST, Compression, Format, check_task_id


class TableDetails(ListedTable):
    """The backup of a table. `rows` and `digest` are those of all of its rows. The other numbers
    are those of its own file, which in an incremental table has only the `file_rows` changed since
    `builds_on`.

    `bytes` were written, `stored_bytes` are there: null if the file is missing. `raw_bytes` is null
    if the file is compressed. `table_bytes` was the table's size in the database. `full_reason`
    says why the table is not incremental. What only the manifest says is null if it is unreadable.
    """

    columns: int | None = None
    digest: str | None = None
    file: str | None = None
    file_rows: int | None = None
    stored_bytes: int | None = None
    raw_bytes: int | None = None
    table_bytes: int | None = None
    format: Format | None = None
    compression: Compression | None = None
    sha256: str | None = None
    key_file: str | None = None
    builds_on: str | None = None
    full_reason: str | None = None
    error: str | None = None


class SetDetails(ListedBackup):
    """A set with what its manifest says. `location` is a path or URL. `chain` are the sets that it
    builds on, newest first. `errors` are those of its run, or why the manifest cannot be read; what
    only the manifest says is null then."""

    location: str
    chain: list[str]
    errors: list[str]
    origin: str | None = None
    tool_version: str | None = None
    server_version: str | None = None
    pgvector_version: str | None = None
    encoding: str | None = None
    run_id: str | None = None
    snapshot: str | None = None
    tables: Mapping[str, TableDetails]


def describe_set(
    root: BackupRoot, timestamps: TimestampFormat, timestamp: str, task_id: str | None = None
) -> SetDetails:
    """The set with that timestamp, in whatever state; for `latest`, the newest complete one.

    Raises:
        InvalidParams: the timestamp or the task_id is malformed.
        ResourceNotFound: there is no such set.
    """
    check_task_id(task_id)
    check_timestamp(timestamps, timestamp, key="set_")
    directory = find_directory(root, None, task_id)
    contents = read_contents(directory, timestamps)
    sets = stored_sets(contents)
    wanted = (s for s in sets if (s.is_usable if timestamp == LATEST else s.stamp == timestamp))
    stored = next(wanted, None)
    backup = None if stored is None else contents.backup_set(stored.stamp)
    if stored is None or backup is None:
        raise no_such_set(contents, timestamp)
    labels = source_labels(s.source for s in sets)
    details = {
        **dict(listed_backup(stored, timestamps, labels, LOG_NAME in contents.sizes)),
        "location": directory.location,
        "chain": _chain(stored, sets),
        "tables": {f.table: TableDetails(**_of_file(f)) for f in stored.files},
    }
    if isinstance(backup, DamagedSet):
        return SetDetails(**details, errors=[backup.error.message])
    manifest = backup.manifest
    files = {file.identity: file for file in stored.files}
    tables = {t.table: _table(t, files.get((t.schema_name, t.name))) for t in manifest.tables}
    return SetDetails(
        **details | {"tables": tables},
        errors=manifest.result.errors,
        origin=manifest.origin,
        tool_version=manifest.tool_version,
        server_version=manifest.server.version,
        pgvector_version=manifest.server.pgvector_version,
        encoding=manifest.server.encoding,
        run_id=manifest.run_id,
        snapshot=manifest.snapshot or None,
    )


def _chain(stored: StoredSet, sets: Sequence[StoredSet]) -> list[str]:
    builds_on = {s.stamp: s.builds_on for s in sets}
    chain: list[str] = []
    stamp = stored.builds_on
    while stamp is not None and stamp not in chain:
        chain.append(stamp)
        stamp = builds_on.get(stamp)
    return chain


def _of_file(file: StoredFile | None) -> dict[str, Any]:
    if file is None:
        return {"rows": None, "bytes": 0}
    known = {"file": file.name, "stored_bytes": file.stored_bytes, "builds_on": file.builds_on}
    return {"rows": file.rows, "bytes": file.bytes, **known}


def _table(table: TableBackup, stored: StoredFile | None) -> TableDetails:
    details = {
        **_of_file(stored),
        "columns": len(table.columns),
        "digest": table.digest,
        "table_bytes": sum(r.size for r in table.relations) if table.relations else None,
        "key_file": table.keys.name if table.keys else None,
        "full_reason": table.full_reason,
        "error": table.error,
    }
    if (file := table.file) is not None:
        details |= {
            "file_rows": file.rows,
            "raw_bytes": file.bytes if file.compression == "none" else None,
            "format": file.format,
            "compression": file.compression,
            "sha256": file.sha256,
        }
    return TableDetails(**details)
