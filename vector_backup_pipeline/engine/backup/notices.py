"""Notices about data that a backup does not contain, or reads in an unusual way."""

from collections.abc import Iterator
from dataclasses import dataclass

from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.postgres.tables import TableSource, missing_grants
from vector_backup_pipeline.engine.table_definition import TableDefinition
from vector_backup_pipeline.parameters.table_names import TableName


@dataclass(frozen=True)
class Notice:
    """`subject` is the table or object that the notice is about."""

    subject: str
    message: str
    advice: str

    def __str__(self) -> str:
        return f"{self.message}. {self.advice}"


def read_notices(
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
