"""What a role may not do with its tables, and what would mend it, as statements to run."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.parameters.table_names import TableName, parse_table_name

# As `find_table` looks a name up. Roles and names come back quoted as a statement needs them.
_PRIVILEGES = """
    SELECT quote_ident(current_user), quote_ident(n.nspname),
           CASE c.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE '' END
               || format('%%I.%%I', n.nspname, c.relname),
           has_schema_privilege(n.oid, 'USAGE'),
           ARRAY(SELECT each FROM unnest(%(privileges)s::text[]) each
                  WHERE NOT has_table_privilege(c.oid, each))
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relname::text = %(name)s AND CASE WHEN %(schema)s::text IS NULL
           THEN c.oid = to_regclass(quote_ident(%(name)s))
           ELSE n.nspname::text = %(schema)s END
"""
_SIMILAR = """
    SELECT format('%%I.%%I', n.nspname, c.relname)
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE lower(c.relname) = lower(%(name)s) AND c.relkind IN ('r', 'p', 'f')
       AND n.nspname !~ '^pg_(toast|temp)' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
     ORDER BY 1
     LIMIT 5
"""
# A partition's copy of its parent's key only repeats it. The row of a key to this partition's root
# counts: TRUNCATE of the partition alone is refused for it.
_REFERENCES = """
    SELECT format('%%I.%%I', n.nspname, c.relname), quote_ident(k.conname)
      FROM pg_constraint k
      JOIN pg_class c ON c.oid = k.conrelid
      JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE k.contype = 'f' AND k.confrelid = %(oid)s AND k.conrelid <> ALL(%(but)s)
       AND NOT EXISTS (SELECT FROM pg_constraint above
                        WHERE above.oid = k.conparentid AND above.conrelid <> k.conrelid)
     ORDER BY 1, 2
"""


def missing_grants(cursor: Cursor, wanted: TableName, privileges: Sequence[str]) -> list[str]:
    """The GRANT statements that this role needs to have `privileges` on the table or sequence, and
    USAGE of its schema; none where it does not exist."""
    about = {"schema": wanted.schema, "name": wanted.name, "privileges": list(privileges)}
    cursor.execute(_PRIVILEGES, about)
    row = cursor.fetchone()
    if row is None:
        return []
    role, schema, table, may_use, missing = row
    statements = [] if may_use else [f"GRANT USAGE ON SCHEMA {schema} TO {role};"]
    return [*statements, *(f"GRANT {each} ON {table} TO {role};" for each in missing)]


def similar_tables(cursor: Cursor, requested: str) -> list[str]:
    """Tables of that name in whatever schema and case, as the settings would name them."""
    wanted = parse_table_name(requested)
    cursor.execute(_SIMILAR, {"name": wanted.name})
    return [name for (name,) in cursor.fetchall()]


def references_from_elsewhere(
    cursor: Cursor, oid: int, but: Sequence[int]
) -> list[tuple[str, str]]:
    """(table, foreign key) of every table that refers to `oid`, those of `but` left out: while
    one does, TRUNCATE refuses it."""
    cursor.execute(_REFERENCES, {"oid": oid, "but": [oid, *but]})
    return [(table, constraint) for table, constraint in cursor.fetchall()]
