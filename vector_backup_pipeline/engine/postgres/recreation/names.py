"""Names of the backup's objects in the target: while they are created, and afterwards.

Objects are moved from the staging schemas to the final schemas, and from the old names to the new
ones, by ALTER … RENAME and SET SCHEMA: PostgreSQL itself updates every expression, default and
policy that names the object.
"""

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Identifier

from vector_backup_pipeline.engine.postgres.recreation.target_objects import (
    extension_members,
    names_taken,
)
from vector_backup_pipeline.engine.sql_tokens import Name, relocated
from vector_backup_pipeline.engine.table_definition import Dependency, Kind, TableDefinition

# NAMEDATALEN - 1: the server cuts longer names, and two of them may become one.
_LONGEST_BYTES = 63
_KINDS = {
    Kind.TABLE: "TABLE",
    Kind.KEY: "INDEX",
    Kind.INDEX: "INDEX",
    Kind.STATISTICS: "STATISTICS",
}
# They change their schema with their table.
_FOLLOWING = ("INDEX", "SEQUENCE")


@dataclass(frozen=True)
class NewTable:
    """A table to create. `schema` and `name` may differ from the definition's: it is renamed."""

    definition: TableDefinition
    schema: str
    name: str

    @property
    def original(self) -> Name:
        return self.definition.qualified_name

    @property
    def final(self) -> Name:
        return self.schema, self.name

    @property
    def is_renamed(self) -> bool:
        return self.final != self.original


def staging_schemas(staging: str, schemas: Iterable[str]) -> dict[str, str]:
    """One staging schema for each schema of the backup, so that app.docs and public.docs both fit:
    exactly `staging` for the first, then `staging_2`, `staging_3`, …"""
    return {
        schema: staging if number == 1 else f"{staging}_{number}"
        for number, schema in enumerate(dict.fromkeys(schemas), 1)
    }


class NameMap:
    """From the backup's names to the target's, where they differ. It grows while objects are
    created. Functions are kept apart, because a table may have the same name."""

    def __init__(self, existing: Mapping[Name, Name]) -> None:
        self._names: dict[Name, Name] = dict(existing)
        self._functions: dict[Name, Name] = {}

    def put(self, original: Name, name: Name) -> None:
        self._names[original] = name

    def put_members(self, cursor: Cursor, extension: Dependency, schema: str) -> None:
        """The target has `extension` in `schema`."""
        if schema == extension.schema_name:
            return
        for member, is_function in extension_members(cursor, extension.name):
            original, name = (extension.schema_name, member), (schema, member)
            # A type with a modifier, vector(3), looks like a call.
            self._functions[original] = name
            if is_function:
                # A regproc is a function's name without arguments; a relation goes first.
                self._names.setdefault(original, name)
            else:
                self._names[original] = name

    def find(self, original: Name) -> Name:
        return self._names.get(original, original)

    def relocated(self, statement: str) -> str:
        return relocated(statement, self._names, self._functions)


@dataclass(frozen=True)
class Move:
    """`kind` is what ALTER calls it; `follows` its table, and so is only renamed."""

    kind: str
    original: Name
    final: Name
    follows: bool = False

    @property
    def is_renamed(self) -> bool:
        return self.original[1] != self.final[1]


def moves_of_tables(cursor: Cursor, tables: Sequence[NewTable]) -> list[Move]:
    """Every table with what belongs to it; what belongs to a renamed table gets free names."""
    schemas = {_final_schema(t, name[0]) for t in tables if t.is_renamed for _, name in _objects(t)}
    taken = names_taken(cursor, schemas) | {table.final for table in tables}
    moves = []
    # First the tables that are not renamed: their names are taken.
    for table in sorted(tables, key=lambda table: table.is_renamed):
        for kind, original in _objects(table):
            final = original
            if original == table.original:
                final = table.final
            elif table.is_renamed:
                schema = _final_schema(table, original[0])
                names = {name for taken_schema, name in taken if taken_schema == schema}
                final = schema, free_name(original[1], table.definition.name, table.name, names)
            taken.add(final)
            moves.append(Move(kind, original, final, kind in _FOLLOWING))
    return moves


def make_moves(cursor: Cursor, moves: Sequence[Move], name_map: NameMap, temporary: str) -> None:
    """All moves at once, from the names in `name_map`; two tables may swap their names.

    A renamed object passes between schemas under a name that begins with `temporary`.
    """
    numbered = [(move, f"{temporary}_{number}") for number, move in enumerate(moves)]
    renamed = [(move, passing) for move, passing in numbered if move.is_renamed]
    for move, passing in renamed:
        _alter(cursor, move, name_map.find(move.original), "RENAME TO {}", passing)
    for move, passing in numbered:
        if not move.follows:
            schema, name = name_map.find(move.original)
            created = schema, passing if move.is_renamed else name
            _alter(cursor, move, created, "SET SCHEMA {}", move.final[0])
    for move, passing in renamed:
        _alter(cursor, move, (move.final[0], passing), "RENAME TO {}", move.final[1])


def free_name(name: str, old: str, new: str, taken: Collection[str]) -> str:
    """`name` if it is free; else with the table's `old` name in it replaced by the `new` one, and
    with `_1`, `_2`, … if needed. 63 bytes at most.
    """
    if name not in taken:
        return name
    base = _cut(name.replace(old, new, 1))
    candidates = itertools.chain([base], (_cut(base, f"_{n}") for n in itertools.count(1)))
    return next(candidate for candidate in candidates if candidate not in taken)


def _alter(cursor: Cursor, move: Move, name: Name, change: str, to: str) -> None:
    alter = SQL("ALTER {} {} " + change)
    cursor.execute(alter.format(SQL(move.kind), Identifier(*name), Identifier(to)))


def _objects(table: NewTable) -> Iterator[tuple[str, Name]]:
    """What has a name of its own and belongs to the table or a partition, the table first."""
    for statement in table.definition.created:
        if statement.kind in _KINDS:
            yield _KINDS[statement.kind], statement.qualified_name
    for sequence in table.definition.sequences:
        if sequence.role != "shared":
            yield "SEQUENCE", sequence.qualified_name


def _final_schema(table: NewTable, original: str) -> str:
    """What is in the table's schema goes with it; anything else stays in its schema."""
    return table.schema if original == table.definition.schema_name else original


def _cut(name: str, suffix: str = "") -> str:
    """With the suffix 63 bytes at most, and no half character."""
    return name.encode()[: _LONGEST_BYTES - len(suffix)].decode(errors="ignore") + suffix
