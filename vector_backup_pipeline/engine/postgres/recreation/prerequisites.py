"""Extensions, collations and types: which of them the target lacks, and their making."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import psycopg2
from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Identifier

from vector_backup_pipeline.engine.errors import PermissionDenied
from vector_backup_pipeline.engine.postgres.recreation.extensions import extension_states
from vector_backup_pipeline.engine.postgres.recreation.lookups import collations_there, types_there
from vector_backup_pipeline.engine.postgres.recreation.names import NameMap
from vector_backup_pipeline.engine.postgres.recreation.tables import NewTable, name_of
from vector_backup_pipeline.engine.relocation import Name
from vector_backup_pipeline.engine.table_definition import (
    CollationDependency,
    CompositeDependency,
    Dependencies,
    DomainDependency,
    EnumDependency,
    ExtensionDependency,
    RangeDependency,
    SchemaDependency,
)

TypeOrCollation: TypeAlias = (
    CollationDependency | EnumDependency | DomainDependency | CompositeDependency | RangeDependency
)
Prerequisite: TypeAlias = ExtensionDependency | TypeOrCollation


@dataclass(frozen=True)
class Missing:
    """What has to be made."""

    what: Prerequisite

    @property
    def is_movable(self) -> bool:
        """Whether it may be made in a scratch schema first.

        An extension's name is the database's: others would use it there, and be dropped along with
        that schema. A range's constructor functions, and its multirange, stay behind on SET SCHEMA.
        """
        return not isinstance(self.what, ExtensionDependency | RangeDependency)

    @property
    def original(self) -> Name:
        if isinstance(self.what, ExtensionDependency):
            return self.what.schema_name, self.what.name
        return name_of(self.what)


def needed_prerequisites(
    dependencies: Dependencies, tables: Sequence[NewTable]
) -> list[Prerequisite]:
    """What these tables need first, in creation order.

    Schemas are left out: those are made where something is put into them.
    """
    keys = {key for table in tables for key in table.definition.needs}
    return [
        each
        for each in dependencies.objects
        if each.key in keys and not isinstance(each, SchemaDependency)
    ]


def missing_prerequisites(cursor: Cursor, needed: Sequence[Prerequisite]) -> list[Missing]:
    """Those of `needed` that the target lacks, in their order."""
    states = extension_states(cursor, [each.name for each in extensions_of(needed)])
    there = _types_and_collations_there(cursor, needed)

    def is_there(each: Prerequisite) -> bool:
        if isinstance(each, ExtensionDependency):
            return states[each.name].installed is not None
        return (each.kind, name_of(each)) in there

    return [Missing(each) for each in needed if not is_there(each)]


def map_installed_extensions(
    cursor: Cursor, needed: Sequence[Prerequisite], name_map: NameMap
) -> None:
    """Those that the target has in another schema than the backup's server had."""
    extensions = list(extensions_of(needed))
    states = extension_states(cursor, [each.name for each in extensions])
    for each in extensions:
        schema = states[each.name].schema
        if schema is not None:
            name_map.put_members(cursor, each, schema)


def make_prerequisite(cursor: Cursor, what: Prerequisite, schema: str, name_map: NameMap) -> None:
    """Make it in `schema`, and remember that it is there."""
    if isinstance(what, ExtensionDependency):
        _create_extension(cursor, what, schema)
        name_map.put_members(cursor, what, schema)
        return
    name_map.put(name_of(what), (schema, what.name))
    for statement in what.ddl:
        cursor.execute(name_map.relocated(statement))


def _create_extension(cursor: Cursor, what: ExtensionDependency, schema: str) -> None:
    """In the version that this server has; what it has not at all, `check` has refused."""
    create = SQL("CREATE EXTENSION {} WITH SCHEMA {}")
    try:
        cursor.execute(create.format(Identifier(what.name), Identifier(schema)))
    except psycopg2.errors.InsufficientPrivilege as error:
        raise PermissionDenied(
            f"The tables need the extension {what.name}, which this role may not create "
            f"({error.diag.message_primary}). Let a superuser run CREATE EXTENSION {what.name} in "
            "the target database, then restore again."
        ) from error


def extensions_of(needed: Iterable[Prerequisite]) -> Iterator[ExtensionDependency]:
    return (each for each in needed if isinstance(each, ExtensionDependency))


def _types_and_collations_there(
    cursor: Cursor, needed: Sequence[Prerequisite]
) -> set[tuple[str, Name]]:
    wanted: dict[str, set[Name]] = defaultdict(set)
    for each in needed:
        if not isinstance(each, ExtensionDependency):
            wanted[each.kind].add(name_of(each))
    there = set()
    for kind, names in wanted.items():
        found = (
            collations_there(cursor, names)
            if kind == "collation"
            else types_there(cursor, kind, names)
        )
        there |= {(kind, name) for name in found}
    return there
