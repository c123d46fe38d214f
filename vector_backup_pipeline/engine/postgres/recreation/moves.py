"""From the scratch schemas to the final schemas, and from the old names to the new ones.

By ALTER … RENAME and SET SCHEMA: PostgreSQL itself then follows with every expression, default
and policy that names the thing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Composable, Identifier

from vector_backup_pipeline.engine.postgres.recreation.lookups import (
    relation_names_taken,
    statistics_names_taken,
)
from vector_backup_pipeline.engine.postgres.recreation.names import ScratchSchemas
from vector_backup_pipeline.engine.postgres.recreation.naming import free_name
from vector_backup_pipeline.engine.postgres.recreation.prerequisites import Missing
from vector_backup_pipeline.engine.postgres.recreation.tables import (
    NewTable,
    index_names,
    name_of,
)
from vector_backup_pipeline.engine.relocation import Name
from vector_backup_pipeline.engine.table_definition import Relation

Kind = Literal["COLLATION", "DOMAIN", "INDEX", "SEQUENCE", "STATISTICS", "TABLE", "TYPE"]
_KINDS: dict[str, Kind] = {
    "collation": "COLLATION",
    "domain": "DOMAIN",
    "enum": "TYPE",
    "composite": "TYPE",
}


@dataclass(frozen=True)
class Move:
    """`original` is the backup's name. What `follows` its table is only renamed."""

    kind: Kind
    original: Name
    final: Name
    follows: bool = False

    @property
    def is_renamed(self) -> bool:
        return self.original[1] != self.final[1]


class TakenNames:
    """The names that nothing more can have in a schema, those that were just given among them."""

    def __init__(self, cursor: Cursor, schemas: Iterable[str]) -> None:
        wanted = set(schemas)
        self._relations = relation_names_taken(cursor, wanted)
        self._statistics = statistics_names_taken(cursor, wanted)

    def has(self, kind: Kind, name: Name) -> bool:
        return name in self._of(kind)

    def take(self, kind: Kind, name: Name) -> None:
        self._of(kind).add(name)

    def _of(self, kind: Kind) -> set[Name]:
        return self._statistics if kind == "STATISTICS" else self._relations


def moves_of_tables(cursor: Cursor, tables: Sequence[NewTable]) -> list[Move]:
    """Every table and partition with what belongs to it; renamed tables get names that are free."""
    places = {table.original: table.place for table in tables}
    relations = [
        (table, relation, places.get(name_of(relation)))
        for table in tables
        if not table.is_made_by_another
        for relation in table.relations
    ]
    stay = [each for each in relations if _keeps_its_name(*each)]
    change = [each for each in relations if not _keeps_its_name(*each)]
    moves = [move for table, relation, _ in stay for move in _as_they_are(table, relation)]
    if change:
        taken = TakenNames(cursor, (s for each in change for s in _schemas(*each)))
        for move in moves:
            taken.take(move.kind, move.final)
        for place in places.values():
            taken.take("TABLE", place)
        for each in change:
            moves += _renamed(*each, taken)
    return moves


def moves_of_prerequisites(made: Iterable[Missing]) -> list[Move]:
    return [Move(_KINDS[each.what.kind], each.original, each.original) for each in made]


def moves_of_sequences(names: Iterable[Name]) -> list[Move]:
    return [Move("SEQUENCE", name, name) for name in sorted(names)]


def make_moves(
    cursor: Cursor, moves: Sequence[Move], scratch_schemas: ScratchSchemas, passing: str
) -> None:
    """All moves at once; two tables may swap their names.

    Whatever is renamed passes the schemas under a name that begins with `passing` and is nobody's.
    """
    steps = [
        _Steps(move, scratch_schemas.schema(move.original[0]), f"{passing}_{number}")
        for number, move in enumerate(moves)
    ]
    for step in steps:
        step.leave_old_name(cursor)
    for step in steps:
        step.change_schema(cursor)
    for step in steps:
        step.take_new_name(cursor)


@dataclass(frozen=True)
class _Steps:
    move: Move
    first_schema: str
    passing_name: str

    def leave_old_name(self, cursor: Cursor) -> None:
        if self.move.is_renamed:
            created = Identifier(self.first_schema, self.move.original[1])
            self._alter(cursor, created, "RENAME TO {}", self.passing_name)

    def change_schema(self, cursor: Cursor) -> None:
        if not self.move.follows:
            name = self.passing_name if self.move.is_renamed else self.move.original[1]
            created = Identifier(self.first_schema, name)
            self._alter(cursor, created, "SET SCHEMA {}", self.move.final[0])

    def take_new_name(self, cursor: Cursor) -> None:
        if self.move.is_renamed:
            passing = Identifier(self.move.final[0], self.passing_name)
            self._alter(cursor, passing, "RENAME TO {}", self.move.final[1])

    def _alter(self, cursor: Cursor, what: Composable, change: str, name: str) -> None:
        alter = SQL("ALTER {} {} " + change)
        cursor.execute(alter.format(SQL(self.move.kind), what, Identifier(name)))


def _keeps_its_name(table: NewTable, relation: Relation, place: Name | None) -> bool:
    """`place` is the one that was asked for, if this relation was named by itself."""
    return not table.is_renamed if place is None else place == name_of(relation)


def _schemas(table: NewTable, relation: Relation, place: Name | None) -> Iterator[str]:
    """All that the relation and what belongs to it may end in."""
    yield from (table.schema, relation.schema_name)
    yield from (each.schema_name for each in relation.statistics)
    if place is not None:
        yield place[0]


def _as_they_are(table: NewTable, relation: Relation) -> Iterator[Move]:
    yield Move("TABLE", name_of(relation), name_of(relation))
    for kind, original, follows in _belongings(table, relation):
        yield Move(kind, original, original, follows)


def _renamed(
    table: NewTable, relation: Relation, place: Name | None, taken: TakenNames
) -> Iterator[Move]:
    final = place or _place_of_partition(table, relation, taken)
    yield Move("TABLE", name_of(relation), final)
    for kind, original, follows in _belongings(table, relation):
        schema = final[0] if original[0] == relation.schema_name else original[0]
        name = _free(kind, (schema, original[1]), (relation.name, final[1]), taken)
        yield Move(kind, original, name, follows)


def _place_of_partition(table: NewTable, relation: Relation, taken: TakenNames) -> Name:
    """It keeps its name; and its schema, unless that is the one that its root leaves."""
    leaves = relation.schema_name == table.definition.schema_name
    schema = table.schema if leaves else relation.schema_name
    return _free("TABLE", (schema, relation.name), (table.definition.name, table.name), taken)


def _free(kind: Kind, wanted: Name, renaming: tuple[str, str], taken: TakenNames) -> Name:
    schema, name = wanted
    place = schema, free_name(name, *renaming, lambda each: taken.has(kind, (schema, each)))
    taken.take(kind, place)
    return place


def _belongings(table: NewTable, relation: Relation) -> Iterator[tuple[Kind, Name, bool]]:
    """What has a name in a schema and belongs to one relation; whether it follows it on its own."""
    for name in index_names(relation):
        yield "INDEX", (relation.schema_name, name), True
    for sequence in table.definition.sequences:
        if sequence.role != "shared" and name_of(sequence.table) == name_of(relation):
            yield "SEQUENCE", name_of(sequence), True
    for statistics in relation.statistics:
        yield "STATISTICS", name_of(statistics), False
