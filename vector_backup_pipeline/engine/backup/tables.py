"""The definitions of the tables of a backup, and notices about what it does not contain or reads in
one stream."""

from collections.abc import Iterator
from dataclasses import dataclass

from psycopg2.extensions import cursor as Cursor
from pydantic_core import PydanticSerializationError

from vector_backup_pipeline.engine.errors import InvalidParams
from vector_backup_pipeline.engine.postgres.connection import database_errors
from vector_backup_pipeline.engine.postgres.definitions import read_definitions
from vector_backup_pipeline.engine.postgres.snapshot import PinnedSnapshot
from vector_backup_pipeline.engine.postgres.sql_ascii import ENCODING
from vector_backup_pipeline.engine.postgres.tables import TableSource, missing_grants
from vector_backup_pipeline.engine.record import Record
from vector_backup_pipeline.engine.table_definition import Definitions, TableDefinition
from vector_backup_pipeline.parameters.table_names import TableName


@dataclass(frozen=True)
class Notice:
    """`subject` is the table or object that the notice is about."""

    subject: str
    message: str
    advice: str

    def __str__(self) -> str:
        return f"{self.message}. {self.advice}"


def _read_notices(
    cursor: Cursor, source: TableSource, definition: TableDefinition
) -> Iterator[Notice]:
    """The notices about one table."""
    table = source.table.requested
    if not all(relation.plannable for relation in source.relations):
        yield Notice(
            f"queries of {table}",
            f"{table} is read in one stream: the server cannot plan queries of it under an empty "
            "search_path",
            "A function in an index, a constraint or extended statistics uses names without their "
            "schemas. Qualify them, or give the function a search_path: ALTER FUNCTION ... SET "
            "search_path.",
        )
    for sequence in definition.sequences:
        if sequence.last_value is None:
            name = TableName(sequence.schema_name, sequence.name)
            advice = missing_grants(cursor, name, "SELECT") or "Run the backup again."
            yield Notice(
                f"sequence {sequence}",
                f"the value of sequence {sequence} of {table} cannot be read, so a restore sets "
                f"it from the largest value in column {sequence.column}",
                advice,
            )
    for column in definition.columns:
        if column.type.is_large_object:
            yield Notice(
                f"large objects of {table}",
                f"column {column.name} of {table} refers to large objects, which are not in the "
                "backup: a restore brings back their OIDs only",
                "Back them up with pg_dump --large-objects, or store the data in a bytea column.",
            )


def read_tables(pinned: PinnedSnapshot) -> tuple[Definitions, list[Notice]]:
    """The definitions of the snapshot's tables, and notices about them. A table whose definition a
    manifest can't hold becomes a failure."""
    oids = [source.table.oid for source in pinned.tables.values()]
    with (
        database_errors("read the tables' definitions", pinned.settings.secrets),
        pinned.coordinator.cursor() as cursor,
    ):
        definitions = read_definitions(cursor, oids)
        _leave_out_unstorable(pinned, definitions)
        notices: list[Notice] = []
        for source in pinned.tables.values():
            notices += _read_notices(cursor, source, definitions.tables[source.table.oid])
        return definitions, notices


def _leave_out_unstorable(pinned: PinnedSnapshot, definitions: Definitions) -> None:
    """Fail the tables whose definitions a manifest can't hold: it is UTF-8, and in a SQL_ASCII
    database a name, default or comment may be other bytes."""
    if pinned.server.encoding != ENCODING:
        return
    shared_is_storable = all(map(_is_storable, definitions.dependencies))
    for name, source in list(pinned.tables.items()):
        if not (shared_is_storable and _is_storable(definitions.tables[source.table.oid])):
            del pinned.tables[name]
            pinned.failures[name] = InvalidParams(
                f"{name} cannot be backed up: a name, default, comment or type in its definition "
                "holds bytes that are not UTF-8. Change it, with ALTER or COMMENT."
            )


def _is_storable(record: Record) -> bool:
    try:
        record.model_dump_json()
    except PydanticSerializationError:
        return False
    return True


def check_binary(table: TableSource, definition: TableDefinition) -> None:
    """Raise `InvalidParams` for a table that can't be written in format `binary`."""
    type_names = [
        f"{column.name} ({column.type.text})"
        for column in definition.columns
        if column.name in table.columns and not column.type.binary_portable
    ]
    if type_names:
        raise InvalidParams(
            f"{table.table.requested} cannot be backed up in format 'binary': the binary form of "
            f"{', '.join(type_names)} contains OIDs, which differ in another database, or does not "
            "exist. Use format 'csv'."
        )
