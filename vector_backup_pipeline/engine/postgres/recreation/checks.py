"""What a target must have before tables are created: other tables, and roles of policies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.errors import DatabaseRefused, InvalidParams
from vector_backup_pipeline.engine.postgres.recreation.lookups import roles_there, tables_there
from vector_backup_pipeline.engine.postgres.recreation.tables import (
    NewTable,
    name_of,
    relations_of,
)
from vector_backup_pipeline.engine.relocation import Name
from vector_backup_pipeline.engine.table_definition import QualifiedName


def check_makers(tables: Sequence[NewTable]) -> None:
    """Raises InvalidParams: a partition's statements are its root's, which is not restored."""
    chosen = {table.original for table in tables}
    for table in tables:
        maker = table.definition.created_with
        if maker is not None and name_of(maker) not in chosen:
            raise InvalidParams(
                f"{table.definition} is a partition that the backup makes along with {maker}: "
                f"alone it has no definition. Restore {maker}, which holds its rows too, or create "
                f"{table.definition} first."
            )


def check_parents(
    cursor: Cursor, tables: Sequence[NewTable], existing: Mapping[Name, Name]
) -> None:
    """Raises InvalidParams: a table inherits from one that is nowhere; or a copy of it, under
    another name, would show its rows in a parent that is not restored along."""
    for table, parent in parents_elsewhere(tables):
        if table.is_renamed and name_of(parent) not in existing:
            raise InvalidParams(
                f"{table.definition} inherits from {parent}, which is not restored along: under "
                f"another name its rows would show in {parent} as well. Restore {parent} too."
            )
        place = existing.get(name_of(parent), name_of(parent))
        if not tables_there(cursor, {place}):
            raise InvalidParams(
                f"{table.definition} inherits from {parent}, which is neither restored along nor "
                f"in the target. Restore {parent} too."
            )


def parents_elsewhere(tables: Sequence[NewTable]) -> Iterator[tuple[NewTable, QualifiedName]]:
    """The inheritance parents that are not among `tables`."""
    new = {name_of(relation) for relation in relations_of(tables)}
    for table in tables:
        for parent in table.definition.inherits:
            if name_of(parent) not in new:
                yield table, parent


def check_policies(cursor: Cursor, tables: Sequence[NewTable]) -> None:
    """Raises DatabaseRefused: one of the policies can't be made."""
    for table in tables:
        for policy in table.definition.unread_policies:
            raise DatabaseRefused(
                f"The backup holds no definition of the row security policy {policy.name!r} of "
                f"{policy.table}: the table would be created without it. Create the table with its "
                "policies first, and restore the rows into it."
            )
    _check_roles(cursor, tables)


def _check_roles(cursor: Cursor, tables: Sequence[NewTable]) -> None:
    policies = [
        (relation, policy) for relation in relations_of(tables) for policy in relation.policies
    ]
    roles = {role for _, policy in policies for role in policy.roles}
    missing = roles - roles_there(cursor, roles)
    for relation, policy in policies:
        for role in policy.roles:
            if role in missing:
                raise DatabaseRefused(
                    f"The row security policy {policy.name!r} of {relation} is for the role "
                    f"{role!r}, which the target server does not have. Create the role there "
                    "(CREATE ROLE), then restore again."
                )
