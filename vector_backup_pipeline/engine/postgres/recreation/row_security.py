"""Row security: its policies come back as they were, or the restore fails."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.errors import DatabaseRefused
from vector_backup_pipeline.engine.postgres.recreation.lookups import roles_there
from vector_backup_pipeline.engine.postgres.recreation.tables import NewTable, relations_of


def check_roles(cursor: Cursor, tables: Sequence[NewTable]) -> None:
    """Raises DatabaseRefused: a policy is for a role that the target's server does not have."""
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
