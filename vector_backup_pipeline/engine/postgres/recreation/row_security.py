"""Row security: its policies come back as they were, or the restore fails."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.errors import DatabaseRefused
from vector_backup_pipeline.engine.postgres.recreation.lookups import roles_there
from vector_backup_pipeline.engine.postgres.recreation.tables import NewTable, relations_of


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
