"""Whether the target takes the binary form of the backup's rows for what they were.

That form is each type's own and names no type and no version: a reader of another one may make
other values of it without any error. PostgreSQL promises it within a major version ("The
binary-format option … less portable", COPY), pgvector says nothing of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.errors import InvalidParams
from vector_backup_pipeline.engine.manifest import Manifest
from vector_backup_pipeline.engine.postgres.server import (
    ServerIdentity,
    identify_server,
    pgvector_to_come,
)
from vector_backup_pipeline.engine.restore.plan import PlannedTable

_PGVECTOR_TYPES = {"vector", "halfvec", "sparsevec"}
# Sent and received alike.
_TEXTS = {"text", "varchar"}


def check_binary_rows(
    cursor: Cursor,
    planned: Sequence[PlannedTable],
    manifest: Manifest,
    *,
    allow_other_versions: bool,
) -> None:
    """Refuse what the target would read otherwise than the source wrote it.

    Raises:
        InvalidParams: a column is of another type, or server or pgvector are of another version
            and `allow_other_versions` is not given.
    """
    binary = [table for table in planned if table.stored.form.name == "binary"]
    for table in binary:
        _check_types(table)
    if binary and not allow_other_versions:
        _check_versions(cursor, binary, manifest)


def _check_types(table: PlannedTable) -> None:
    definition, existing = table.stored.definition, table.existing
    if definition is None or existing is None:
        return
    for column in definition.columns:
        found = existing.column(column.name)
        if found is None or column.name not in table.columns:
            continue
        if found.type_name != column.type.name and {found.type_name, column.type.name} != _TEXTS:
            raise InvalidParams(
                f"The column {column.name} of {existing.label} is of type {found.type_name}, in "
                f"the backup of {column.type.text}, and {table.stored.file} is binary: the values "
                "would be read as others. Restore under another name with rename."
            )


def _check_versions(cursor: Cursor, binary: Sequence[PlannedTable], manifest: Manifest) -> None:
    source, target = manifest.server, identify_server(cursor)
    others = []
    if source.version_num // 10_000 != target.version_num // 10_000:
        others.append(f"PostgreSQL {source.version}, the target is {target.version}")
    if any(_has_vectors(table) for table in binary):
        others += _other_pgvector(source.pgvector_version, _pgvector(cursor, target))
    if others:
        raise InvalidParams(
            f"{', '.join(table.stored.file for table in binary)} is binary, written by "
            f"{'; and by '.join(others)}. The binary form is promised within a version alone. "
            "Restore to a server of the same version; or set allow_other_versions: types are "
            "compared and all rows proved by their digest in any case, and nothing stays if they "
            "differ. For a move between versions, format csv is made."
        )


def _has_vectors(table: PlannedTable) -> bool:
    definition = table.stored.definition
    columns = definition.columns if definition else ()
    return any(column.type.name in _PGVECTOR_TYPES for column in columns)


def _pgvector(cursor: Cursor, target: ServerIdentity) -> str | None:
    return target.pgvector_version or pgvector_to_come(cursor)


def _other_pgvector(source: str | None, target: str | None) -> list[str]:
    """Patch releases read each other's vectors."""
    if source is None or target is None or source.split(".")[:2] == target.split(".")[:2]:
        return []
    return [f"pgvector {source}, the target has {target}"]
