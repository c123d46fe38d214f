"""pg_policy: the row security policies, as the parts of CREATE POLICY."""

from __future__ import annotations

import psycopg2
from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.postgres.definitions.reading import (
    Row,
    grouped,
    rows,
    side_read,
)
from vector_backup_pipeline.engine.table_definition import Policy

# Printing a subquery locks its tables (ruleutils' AcquireRewriteLocks), which may be others than
# ours: such policies are told apart by pg_depend and read aside.
_POLICIES = """
SELECT p.oid, p.polrelid, p.polname AS name, p.polpermissive AS permissive, p.polcmd,
       ARRAY(SELECT pg_catalog.pg_get_userbyid(r.oid)::text
               FROM pg_catalog.unnest(p.polroles) r(oid) WHERE r.oid <> 0
              ORDER BY 1) AS roles,
       EXISTS (SELECT FROM pg_catalog.pg_depend d
                WHERE d.classid = 'pg_catalog.pg_policy'::regclass AND d.objid = p.oid
                  AND d.refclassid = 'pg_catalog.pg_class'::regclass
                  AND d.refobjid <> p.polrelid) AS reads_others
  FROM pg_catalog.pg_policy p
 WHERE p.polrelid = ANY(%(oids)s::oid[])
 ORDER BY p.polrelid, p.polname
"""

_EXPRESSIONS = """
SELECT p.oid, pg_catalog.pg_get_expr(p.polqual, p.polrelid) AS using,
       pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid) AS with_check
  FROM pg_catalog.pg_policy p
 WHERE p.oid = ANY(%(policies)s::oid[])
"""

_COMMANDS = {"*": "ALL", "r": "SELECT", "a": "INSERT", "w": "UPDATE", "d": "DELETE"}


class Policies:
    """By table, and the names of those whose expressions could not be read in time."""

    def __init__(self, found: list[Row], expressions: dict[int, Row]) -> None:
        self.by_table = grouped(
            (row for row in found if row["oid"] in expressions),
            lambda row: int(row["polrelid"]),
            lambda row: _policy(row, expressions[row["oid"]]),
        )
        self.unread = grouped(
            (row for row in found if row["oid"] not in expressions),
            lambda row: int(row["polrelid"]),
            lambda row: str(row["name"]),
        )


def read_policies(cursor: Cursor, oids: list[int]) -> Policies:
    found = rows(cursor, _POLICIES, oids=oids)
    own = [row["oid"] for row in found if not row["reads_others"]]
    expressions = rows(cursor, _EXPRESSIONS, policies=own) if own else []
    for row in found:
        if row["reads_others"]:
            expressions += _read_aside(cursor, row["oid"])
    return Policies(found, {row["oid"]: row for row in expressions})


def _read_aside(cursor: Cursor, policy: int) -> list[Row]:
    try:
        with side_read(cursor):
            return rows(cursor, _EXPRESSIONS, policies=[policy])
    except psycopg2.errors.LockNotAvailable:
        return []


def _policy(row: Row, expressions: Row) -> Policy:
    return Policy.model_validate(
        {
            "name": row["name"],
            "permissive": row["permissive"],
            "command": _COMMANDS[row["polcmd"]],
            "roles": tuple(row["roles"]),
            "using": expressions["using"],
            "with_check": expressions["with_check"],
        }
    )
