"""A new table: what the manifest says of it, and its place in the target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vector_backup_pipeline.engine.relocation import Name, names_in
from vector_backup_pipeline.engine.table_definition import (
    AnyDependency,
    QualifiedName,
    Relation,
    TableDefinition,
)


@dataclass(frozen=True)
class NewTable:
    """`schema` and `name` may differ from the definition's: then the table is renamed."""

    definition: TableDefinition
    schema: str
    name: str

    @property
    def place(self) -> Name:
        return self.schema, self.name

    @property
    def original(self) -> Name:
        return name_of(self.definition)

    @property
    def is_renamed(self) -> bool:
        return self.place != self.original

    @property
    def is_made_by_another(self) -> bool:
        """A partition whose statements are its root's."""
        return self.definition.created_with is not None

    @property
    def relations(self) -> tuple[Relation, ...]:
        """The table and every partition that its statements make."""
        return (self.definition, *self.definition.partitions)


def name_of(thing: QualifiedName) -> Name:
    return thing.schema_name, thing.name


def relations_of(tables: Sequence[NewTable]) -> Iterator[Relation]:
    for table in tables:
        yield from table.relations


def index_names(relation: Relation) -> Iterator[str]:
    """Of all its indexes, those of its constraints too; they live in its schema."""
    for constraint in relation.constraints:
        if constraint.kind in ("p", "u", "x"):
            yield constraint.name
    for index in relation.indexes:
        if index.valid:
            yield index.name


def names_used(needed: Sequence[AnyDependency], tables: Sequence[NewTable]) -> Iterator[Name]:
    """Every qualified name in the statements that make these, and may not fail."""
    for dependency in needed:
        for statement in dependency.ddl:
            yield from names_in(statement)
    for table in tables:
        made = table.definition
        for statement in (
            *(*made.ddl, *made.key_ddl, *made.index_ddl, *made.late_constraint_ddl),
            *made.row_security_ddl,
        ):
            yield from names_in(statement)


def in_creation_order(tables: Sequence[NewTable]) -> list[NewTable]:
    """Those that another one's creation names come first: its parents, or its columns' row types.

    Partitions that are made by their root are left out.
    """
    waiting = [table for table in tables if not table.is_made_by_another]
    needed = {table.original: _named_by(table) for table in waiting}
    ordered: list[NewTable] = []
    while waiting:
        made_later = {name_of(relation) for relation in relations_of(waiting)}
        ready = [
            table
            for table in waiting
            if not (needed[table.original] - _own_names(table)) & made_later
        ]
        # Two that name each other can't be; should they, the server says it best.
        ordered += ready or waiting[:1]
        waiting = [table for table in waiting if table not in ordered]
    return ordered


def _named_by(table: NewTable) -> set[Name]:
    return {name for statement in table.definition.ddl for name in names_in(statement)}


def _own_names(table: NewTable) -> set[Name]:
    return {name_of(relation) for relation in table.relations}
