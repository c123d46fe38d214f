"""The privileges that a role lacks, as statements to run."""

from __future__ import annotations

from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.parameters.table_names import TableName

# As `resolve_table` looks a name up. Roles and names come back quoted as a statement needs them.
_PRIVILEGES = """
    SELECT quote_ident(current_user), quote_ident(n.nspname),
           CASE c.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE '' END
               || format('%%I.%%I', n.nspname, c.relname),
           has_schema_privilege(n.oid, 'USAGE'),
           has_table_privilege(c.oid, %(privilege)s)
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relname::text = %(name)s AND CASE WHEN %(schema)s::text IS NULL
           THEN c.oid = to_regclass(quote_ident(%(name)s))
           ELSE n.nspname::text = %(schema)s END
"""


def missing_grants(cursor: Cursor, wanted: TableName, privilege: str) -> list[str]:
    """The GRANT statements that this role needs to have `privilege` on the table or sequence, and
    USAGE of its schema; none where it does not exist."""
    parameters = {"schema": wanted.schema, "name": wanted.name, "privilege": privilege}
    cursor.execute(_PRIVILEGES, parameters)
    row = cursor.fetchone()
    if row is None:
        return []
    role, schema, relation, may_use, has_privilege = row
    statements = [] if may_use else [f"GRANT USAGE ON SCHEMA {schema} TO {role};"]
    if not has_privilege:
        statements.append(f"GRANT {privilege} ON {relation} TO {role};")
    return statements
