"""All that is known of one backup set: its entry in the list, and what its manifest says."""

from collections.abc import Mapping
from typing import Any

from vector_backup_pipeline.engine.catalog.choice import check_timestamp, no_such_set
from vector_backup_pipeline.engine.catalog.contents import DamagedSet, read_contents
from vector_backup_pipeline.engine.catalog.locations import (
    ListedBackup,
    ListedTable,
    listed_backup,
)
from vector_backup_pipeline.engine.catalog.sources import source_labels
from vector_backup_pipeline.engine.catalog.stored_sets import stored_sets
from vector_backup_pipeline.engine.file_names import LOG_NAME
from vector_backup_pipeline.engine.manifest import TableBackup
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.timestamps import TimestampFormat
from vector_backup_pipeline.parameters.types import LATEST, Compression, Format


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
    directory: BackupDirectory, timestamps: TimestampFormat, timestamp: str
) -> SetDetails:
    """The set with that timestamp, in whatever state; for `latest`, the newest complete one. Raises
    `InvalidParams` or `ResourceNotFound`."""
    check_timestamp(timestamps, timestamp)
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
    listed = dict(listed_backup(stored, timestamps, labels, LOG_NAME in contents.sizes))
    tables = {
        file.table: {
            "rows": file.rows,
            "bytes": file.bytes,
            "stored_bytes": file.stored_bytes,
            "builds_on": file.builds_on,
            "file": file.name,
        }
        for file in stored.files
    }
    if isinstance(backup, DamagedSet):
        known: dict[str, Any] = {"errors": [backup.error.message]}
    else:
        manifest = backup.manifest
        for table in manifest.tables:
            tables[table.table] = tables.get(table.table, _NO_FILE) | _facts(table)
        known = {
            "errors": manifest.result.errors,
            "tool_version": manifest.tool_version,
            "server_version": manifest.server.version,
            "pgvector_version": manifest.server.pgvector_version,
            "run_id": manifest.run_id,
            "snapshot": manifest.snapshot or None,
        }
    listed |= {"location": directory.location, "chain": [s.stamp for s in chain[1:]]}
    return SetDetails(**listed | known | {"tables": tables})


_NO_FILE: dict[str, Any] = {"rows": None, "bytes": 0}


def _facts(table: TableBackup) -> dict[str, Any]:
    """What the manifest says about a table."""
    file, sizes = table.file, [relation.size for relation in table.relations]
    return {
        "table_bytes": sum(sizes) if sizes else None,
        "columns": len(table.columns),
        "file_rows": file.rows if file else None,
        "format": file.format if file else None,
        "compression": file.compression if file else None,
        "sha256": file.sha256 if file else None,
        "digest": table.digest,
        "key_file": table.keys.name if table.keys else None,
        "full_reason": table.full_reason,
        "error": table.error,
    }
