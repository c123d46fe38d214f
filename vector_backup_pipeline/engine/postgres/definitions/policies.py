"""Policies of row security (pg_policy)."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg2
from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.postgres.definitions.reading import (
    Row,
    rows,
    side_read,
    statement,
)
from vector_backup_pipeline.engine.table_definition import Omission, OmissionKind, Statement

_POLICIES = """
SELECT p.oid, p.polrelid, p.polname, n.nspname AS schema_name, c.relname AS name
  FROM pg_catalog.pg_policy p
  JOIN pg_catalog.pg_class c ON c.oid = p.polrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE p.polrelid = ANY(%(oids)s::oid[])
 ORDER BY p.polrelid, p.polname
"""

# Printing a subquery locks its tables (ruleutils' AcquireRewriteLocks), which may be others than
# ours.
_STATEMENT = """
SELECT 'policy' AS kind, n.nspname AS schema_name, c.relname AS name,
       pg_catalog.format('CREATE POLICY %%I ON %%I.%%I AS %%s FOR %%s TO %%s%%s%%s',
           p.polname, n.nspname, c.relname,
           CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
           CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE'
               WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
           COALESCE((
               SELECT pg_catalog.string_agg(pg_catalog.quote_ident(r.rolname), ', '
                          ORDER BY r.rolname)
                 FROM pg_catalog.pg_roles r WHERE r.oid = ANY(p.polroles)), 'PUBLIC'),
           ' USING (' || pg_catalog.pg_get_expr(p.polqual, p.polrelid) || ')',
           ' WITH CHECK (' || pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid) || ')') AS sql
  FROM pg_catalog.pg_policy p
  JOIN pg_catalog.pg_class c ON c.oid = p.polrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE p.oid = %(policy)s
"""


def read_policies(cursor: Cursor, oids: list[int]) -> Iterator[tuple[int, Statement | Omission]]:
    """By the table's OID. A policy that cannot be read without waiting is an omission."""
    for policy in rows(cursor, _POLICIES, oids=oids):
        yield policy["polrelid"], _read_policy(cursor, policy)


def _read_policy(cursor: Cursor, policy: Row) -> Statement | Omission:
    try:
        with side_read(cursor):
            (row,) = rows(cursor, _STATEMENT, policy=policy["oid"])
    except psycopg2.errors.LockNotAvailable:
        return Omission(
            kind=OmissionKind.UNREAD_POLICY,
            text=f"policy {policy['polname']} of {policy['schema_name']}.{policy['name']}, which "
            "the backup could not read: a table in it was locked",
        )
    return statement(row)
