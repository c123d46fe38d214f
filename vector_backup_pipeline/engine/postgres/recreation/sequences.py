"""Sequences: a table's own are made with it; shared ones may be there, and are then used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import Identifier

from vector_backup_pipeline.engine import table_definition
from vector_backup_pipeline.engine.errors import DatabaseRefused
from vector_backup_pipeline.engine.postgres.recreation.lookups import sequences_there
from vector_backup_pipeline.engine.postgres.recreation.tables import NewTable, name_of
from vector_backup_pipeline.engine.relocation import Name


def owned_sequences(tables: Sequence[NewTable]) -> set[Name]:
    """Those that one of `tables` owns, whichever else draw from them."""
    return {
        name_of(each)
        for table in tables
        for each in table.definition.sequences
        if each.role != "shared"
    }


def shared_sequences(tables: Sequence[NewTable]) -> set[Name]:
    """Those that none of `tables` owns."""
    used = {name_of(each) for table in tables for each in table.definition.sequences}
    return used - owned_sequences(tables)


def made_first(table: NewTable) -> Iterator[tuple[table_definition.Sequence, str]]:
    """The sequences that are made before their table, each with its statement."""
    definition = table.definition
    own = [each for each in definition.sequences if each.role != "identity"]
    return zip(own, definition.sequence_ddl, strict=True)


def check_not_taken(cursor: Cursor, tables: Sequence[NewTable]) -> None:
    """IF NOT EXISTS, in the statements for several tables' sake, would take over a stranger's.

    Raises:
        DatabaseRefused: the target has a sequence of an own sequence's name.
    """
    for schema, name in sequences_there(cursor, owned_sequences(tables)):
        raise DatabaseRefused(
            f"The target has a sequence {schema}.{name} already, and a table of the backup owns "
            "one of that name. Drop or rename the one that is there, or restore the table under "
            "another name with rename."
        )


def set_value(cursor: Cursor, place: Name, value: table_definition.Sequence) -> None:
    name = Identifier(*place).as_string(cursor)
    cursor.execute(
        "SELECT pg_catalog.setval(%s::regclass, %s, %s)",
        (name, value.last_value, value.is_called),
    )
