"""All that is known of one backup set: its entry in the list, and what its manifest says."""

from collections.abc import Mapping
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
from vector_backup_pipeline.engine.catalog.stored_sets import StoredFile, stored_sets
from vector_backup_pipeline.engine.file_names import LOG_NAME
from vector_backup_pipeline.engine.manifest import TableBackup
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.engine.timestamps import TimestampFormat
from vector_backup_pipeline.parameters.types import LATEST, Compression, Format, check_task_id


class TableDetails(ListedTable):
    """The backup of a table. `rows` and `digest` are those of the table, `file_rows` of its own
    data file: in an incremental table, those changed since `builds_on`.

    `bytes` were written, `stored_bytes` are there: null if the file is missing. `table_bytes` was
    the size in the database. `full_reason` says why the table is not incremental. What only the
    manifest says is null if it is unreadable.
    """

    table_bytes: int | None = None
    stored_bytes: int | None = None
    columns: int | None = None
    file: str | None = None
    file_rows: int | None = None
    format: Format | None = None
    compression: Compression | None = None
    digest: str | None = None
    sha256: str | None = None
    key_file: str | None = None
    builds_on: str | None = None
    full_reason: str | None = None
    error: str | None = None


class SetDetails(ListedBackup):
    """A backup set. `chain` are the sets that it builds on, newest first. `errors` are those of its
    run, or why the manifest is unreadable; what only the manifest says is null then."""

    location: str
    chain: list[str]
    tables: Mapping[str, TableDetails]
    errors: list[str]
    tool_version: str | None = None
    server_version: str | None = None
    pgvector_version: str | None = None
    run_id: str | None = None
    snapshot: str | None = None


def describe_set(
    root: BackupRoot, timestamps: TimestampFormat, timestamp: str, task_id: str | None
) -> SetDetails:
    """The set with that timestamp, in whatever state; for `latest`, the newest complete one. Raises
    `InvalidParams` or `ResourceNotFound`."""
    check_task_id(task_id)
    check_timestamp(timestamps, timestamp, key="set_")
    directory = find_directory(root, None, task_id)
    contents = read_contents(directory, timestamps)
    sets = {s.stamp: s for s in stored_sets(contents)}
    if timestamp == LATEST:
        timestamp = next((s.stamp for s in sets.values() if s.is_usable), LATEST)
    backup = contents.backup_set(timestamp)
    if backup is None or timestamp not in sets:
        raise no_such_set(contents, timestamp)
    stored = sets[timestamp]
    chain = [stored]
    while (base := sets.get(chain[-1].builds_on or "")) and base not in chain:
        chain.append(base)
    labels = source_labels(s.source for s in sets.values())
    details: dict[str, Any] = {
        **dict(listed_backup(stored, timestamps, labels, LOG_NAME in contents.sizes)),
        "location": directory.location,
        "chain": [s.stamp for s in chain[1:]],
    }
    if isinstance(backup, DamagedSet):
        tables = {file.table: TableDetails(**_stored(file)) for file in stored.files}
        return SetDetails(**details | {"tables": tables}, errors=[backup.error.message])
    manifest, files = backup.manifest, {file.identity: file for file in stored.files}
    tables = {t.table: _table(t, files.get((t.schema_name, t.name))) for t in manifest.tables}
    return SetDetails(
        **details | {"tables": tables},
        errors=manifest.result.errors,
        tool_version=manifest.tool_version,
        server_version=manifest.server.version,
        pgvector_version=manifest.server.pgvector_version,
        run_id=manifest.run_id,
        snapshot=manifest.snapshot or None,
    )


def _stored(file: StoredFile) -> dict[str, Any]:
    keys = ("rows", "bytes", "stored_bytes", "builds_on")
    return {"file": file.name, **{key: getattr(file, key) for key in keys}}


def _table(table: TableBackup, stored: StoredFile | None) -> TableDetails:
    file, relations = table.file, table.relations
    return TableDetails(
        **(_stored(stored) if stored else {"rows": None, "bytes": 0}),
        table_bytes=sum(relation.size for relation in relations) if relations else None,
        columns=len(table.columns),
        file_rows=file.rows if file else None,
        format=file.format if file else None,
        compression=file.compression if file else None,
        digest=table.digest,
        sha256=file.sha256 if file else None,
        key_file=table.keys.name if table.keys else None,
        full_reason=table.full_reason,
        error=table.error,
    )
