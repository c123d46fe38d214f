"""All that is known of one backup set: its entry in the list, and what its manifest says."""

from typing import Any

from vector_backup_pipeline.engine.catalog.choice import check_timestamp, no_such_set
from vector_backup_pipeline.engine.catalog.contents import DamagedSet, read_contents
from vector_backup_pipeline.engine.catalog.locations import listed_backup
from vector_backup_pipeline.engine.catalog.sources import source_labels
from vector_backup_pipeline.engine.catalog.stored_sets import StoredFile, stored_sets
from vector_backup_pipeline.engine.file_names import LOG_NAME
from vector_backup_pipeline.engine.manifest import TableBackup
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.parameters.types import LATEST


def describe_set(directory: BackupDirectory, timestamp: str) -> dict[str, Any]:
    """The set with that timestamp, in whatever state, as JSON; for `latest`, the newest complete
    one.

    `chain` are the sets that it builds on, newest first. `errors` are those of its run, or why the
    manifest is unreadable; what only the manifest says is absent then.

    Raises:
        InvalidParams: the timestamp is malformed.
        ResourceNotFound: there is no such set.
    """
    check_timestamp(directory.timestamps, timestamp)
    contents = read_contents(directory)
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
    listed = listed_backup(stored, directory.timestamps, labels, LOG_NAME in contents.sizes)
    tables = {file.table: _stored(file) for file in stored.files}
    details = {
        **listed.model_dump(mode="json"),
        "location": directory.location,
        "chain": [s.stamp for s in chain[1:]],
        "tables": tables,
    }
    if isinstance(backup, DamagedSet):
        return details | {"errors": [backup.error.message]}
    manifest = backup.manifest
    for table in manifest.tables:
        tables[table.table] = tables.get(table.table, {}) | _manifested(table)
    return details | {
        "errors": manifest.result.errors,
        "tool_version": manifest.tool_version,
        "server_version": manifest.server.version,
        "pgvector_version": manifest.server.pgvector_version,
        "run_id": manifest.run_id,
        "snapshot": manifest.snapshot or None,
    }


def _stored(file: StoredFile) -> dict[str, Any]:
    """`bytes` were written, `stored_bytes` are there: null if the file is missing."""
    return {
        "rows": file.rows,
        "bytes": file.bytes,
        "stored_bytes": file.stored_bytes,
        "file": file.name,
        "builds_on": file.builds_on,
    }


def _manifested(table: TableBackup) -> dict[str, Any]:
    """`digest` is that of the table, `file_rows` are those of its own data file: in an incremental
    table, the rows changed since `builds_on`. `table_bytes` was the size in the database.
    `full_reason` says why the table is not incremental."""
    file, sizes = table.file, [relation.size for relation in table.relations]
    return {
        "table_bytes": sum(sizes) if sizes else None,
        "columns": len(table.columns),
        "file_rows": file.rows if file else None,
        "format": file.format if file else None,
        "compression": file.compression if file else None,
        "encryption": file.encryption if file else None,
        "digest": table.digest,
        "sha256": file.sha256 if file else None,
        "key_file": table.keys.name if table.keys else None,
        "full_reason": table.full_reason,
        "error": table.error,
    }
