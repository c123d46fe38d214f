"""Row security: its policies come back as they were, or the restore fails."""

from __future__ import annotations

import re
from collections.abc import Sequence

from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.errors import DatabaseRefused
from vector_backup_pipeline.engine.postgres.recreation.lookups import roles_there
from vector_backup_pipeline.engine.postgres.recreation.tables import NewTable, relations_of

# As `definitions` says it of a policy that a lock kept it from reading.
_UNREAD = re.compile(r"(?:.*: )?(policy .*), which could not be read without waiting", re.DOTALL)


def check_policies(cursor: Cursor, tables: Sequence[NewTable]) -> None:
    """Raises DatabaseRefused: one of the policies can't be made."""
    for table in tables:
        for lost in filter(None, map(_UNREAD.fullmatch, table.definition.not_recreated)):
            raise DatabaseRefused(
                f"The backup holds no definition of the row security {lost.group(1)!r} of "
                f"{table.definition}: the table would be made without it. Create the table with "
                "its policies first, and restore the rows into it."
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


def is_forcing(statement: str) -> bool:
    """Whether this statement of `row_security_ddl` puts the owner itself under the policies."""
    return statement.startswith("ALTER TABLE ") and statement.endswith(" FORCE ROW LEVEL SECURITY")
