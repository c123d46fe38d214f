"""Row security and comments: the statements that come when all else is there."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg2 import sql

from vector_backup_pipeline.engine.postgres.definitions.statements import named
from vector_backup_pipeline.engine.table_definition import Comment, Policy, Relation


def row_security(table: Relation) -> Iterator[sql.Composable]:
    for policy in table.policies:
        yield _policy(table, policy)
    if table.row_security:
        yield sql.SQL("ALTER TABLE {} ENABLE ROW LEVEL SECURITY").format(named(table))
    if table.row_security_forced:
        yield sql.SQL("ALTER TABLE ONLY {} FORCE ROW LEVEL SECURITY").format(named(table))


def _policy(table: Relation, policy: Policy) -> sql.Composable:
    roles = sql.SQL(", ").join(sql.Identifier(role) for role in policy.roles)
    parts: list[sql.Composable] = [
        sql.SQL("CREATE POLICY {} ON {} AS {} FOR {} TO {}").format(
            sql.Identifier(policy.name),
            named(table),
            sql.SQL("PERMISSIVE" if policy.permissive else "RESTRICTIVE"),
            sql.SQL(policy.command),
            roles if policy.roles else sql.SQL("PUBLIC"),
        )
    ]
    if policy.using is not None:
        parts.append(sql.SQL("USING ({})").format(sql.SQL(policy.using)))
    if policy.with_check is not None:
        parts.append(sql.SQL("WITH CHECK ({})").format(sql.SQL(policy.with_check)))
    return sql.SQL(" ").join(parts)


def comment_on(table: Relation, comment: Comment) -> sql.Composable:
    return sql.SQL("COMMENT ON {} {} IS {}").format(
        sql.SQL(comment.on), _commented(table, comment), sql.Literal(comment.text)
    )


def _commented(table: Relation, comment: Comment) -> sql.Composable:
    if comment.on == "TABLE":
        return named(table)
    if comment.on == "COLUMN":
        return sql.Identifier(table.schema_name, table.name, comment.name)
    if comment.on in ("CONSTRAINT", "POLICY"):
        return sql.SQL("{} ON {}").format(sql.Identifier(comment.name), named(table))
    return sql.Identifier(comment.schema_name or table.schema_name, comment.name)
