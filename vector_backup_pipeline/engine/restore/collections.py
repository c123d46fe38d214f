"""Some of LangChain's collections: their rows in both tables, found by the collections' names."""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace

from psycopg2.sql import SQL, Identifier, Literal

from vector_backup_pipeline.engine.catalog.contents import COLLECTION_TABLE, EMBEDDING_TABLE
from vector_backup_pipeline.engine.errors import InvalidParams, ResourceNotFound
from vector_backup_pipeline.engine.formats.csv import csv_fields
from vector_backup_pipeline.engine.formats.pgcopy import tuple_fields
from vector_backup_pipeline.engine.older_system import read_rows
from vector_backup_pipeline.engine.restore.plan import PlannedTable
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.stored_files import read_blocks, unpack_rows

# The columns with a collection's identity, by table.
_IDENTITY = {COLLECTION_TABLE: "uuid", EMBEDDING_TABLE: "collection_id"}
_NAME = "name"
_SHOWN = 20


def chosen_rows(
    directory: BackupDirectory, planned: Sequence[PlannedTable], names: Sequence[str]
) -> list[PlannedTable]:
    """The plan, with each table's rows limited to the collections `names`.

    Raises:
        InvalidParams: a table is not LangChain's, or the table of collections is not among them.
        ResourceNotFound: the set has no collection of that name.
    """
    others = [
        table.table for table in planned if _IDENTITY.get(table.stored.name) not in table.columns
    ]
    if others:
        raise InvalidParams(
            f"collections selects rows of LangChain's tables, but {', '.join(others)} is not one "
            f"of them. Name only {COLLECTION_TABLE} and {EMBEDDING_TABLE} in tables."
        )
    collections = next((table for table in planned if table.stored.name == COLLECTION_TABLE), None)
    if collections is None:
        raise InvalidParams(
            f"collections requires {COLLECTION_TABLE}, which contains the names, among the tables "
            "to be restored. Add it to tables; on_conflict 'skip' keeps its existing rows."
        )
    identities = _identities(directory, collections, names)
    # Untyped literals take the type of the column, uuid or text.
    listed = SQL(", ").join(map(Literal, identities))
    return [
        replace(
            table,
            where=SQL("{} IN ({})").format(Identifier(_IDENTITY[table.stored.name]), listed),
        )
        for table in planned
    ]


def _identities(directory: BackupDirectory, table: PlannedTable, names: Sequence[str]) -> list[str]:
    identities: dict[str, list[str]] = {}
    for name, identity in _named_rows(directory, table):
        # LangChain's older layout allowed two collections of the same name.
        identities.setdefault(name, []).append(identity)
    missing = [name for name in names if name not in identities]
    if missing:
        existing = ", ".join(sorted(identities)[:_SHOWN])
        existing += ", …" if len(identities) > _SHOWN else ""
        raise ResourceNotFound(
            f"The set has no collection {', '.join(map(repr, missing))}. It has: "
            f"{existing or 'none'}."
        )
    return [identity for name in names for identity in identities[name]]


def _named_rows(directory: BackupDirectory, table: PlannedTable) -> Iterator[tuple[str, str]]:
    name_at = table.columns.index(_NAME)
    identity_at = table.columns.index(_IDENTITY[COLLECTION_TABLE])
    data = table.stored.data
    if not data.has_digest:
        for _, fields in read_rows(directory, table.stored.file):
            yield fields[name_at], fields[identity_at]
    elif data.format == "binary":
        by_name = {column.name: column.type.name for column in table.stored.columns}
        types = [by_name[name] for name in table.columns]
        for row in _stored_rows(directory, table):
            values = tuple_fields(row)
            yield (
                _text(values[name_at], types[name_at]),
                _text(values[identity_at], types[identity_at]),
            )
    else:
        for row in _stored_rows(directory, table):
            texts = csv_fields(row.decode(errors="surrogateescape"))
            yield texts[name_at] or "", texts[identity_at] or ""


def _stored_rows(directory: BackupDirectory, table: PlannedTable) -> Iterator[bytes]:
    for part in table.stored.parts:
        for _, plain in read_blocks(directory, part.data):
            for rows in unpack_rows(directory, part.data, plain):
                yield from part.wanted(rows)


def _text(value: bytes | None, type_name: str) -> str:
    """uuid_send writes 16 bytes; texts are sent in the client's encoding."""
    if type_name == "uuid" and value is not None:
        return str(uuid.UUID(bytes=value))
    return (value or b"").decode(errors="surrogateescape")
