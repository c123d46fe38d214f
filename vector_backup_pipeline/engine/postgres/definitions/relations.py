"""pg_class and pg_inherits: the tables, their partition trees and their inheritance parents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.postgres.definitions.reading import (
    POSTGRES_14,
    Row,
    grouped,
    rows,
    since,
)
from vector_backup_pipeline.engine.table_definition import QualifiedName

# pg_partition_tree() would lock every partition; reading pg_inherits locks none.
_TREE = sql.SQL("""
WITH RECURSIVE tree AS (
    SELECT oid, oid AS root, NULL::oid AS parent, 0 AS depth
      FROM pg_catalog.pg_class WHERE oid = ANY(%(oids)s::oid[])
    UNION ALL
    SELECT i.inhrelid, tree.root, i.inhparent, tree.depth + 1
      FROM tree
      JOIN pg_catalog.pg_class p ON p.oid = tree.oid AND p.relkind = 'p'
      JOIN pg_catalog.pg_inherits i ON i.inhparent = p.oid AND NOT {detaching}
)
SELECT tree.root, tree.oid, tree.parent, n.nspname, c.relname
  FROM tree
  JOIN pg_catalog.pg_class c USING (oid)
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 ORDER BY tree.depth, n.nspname, c.relname
""")

# A bound holds no column, so pg_get_expr needs no relation (with one, newer servers lock it).
_RELATIONS = """
SELECT c.oid, n.nspname AS schema_name, c.relname AS name, c.relkind, c.relpersistence,
       am.amname AS access_method, c.reloptions, toast.reloptions AS toast_reloptions,
       pg_catalog.pg_get_userbyid(c.relowner) AS owner,
       c.relrowsecurity AS row_security, c.relforcerowsecurity AS row_security_forced,
       c.relreplident, c.relispartition, pg_catalog.pg_get_expr(c.relpartbound, 0) AS bound,
       CASE WHEN c.relkind = 'p' THEN pg_catalog.pg_get_partkeydef(c.oid) END AS partition_key,
       CASE WHEN c.reloftype <> 0 THEN pg_catalog.format_type(c.reloftype, NULL) END AS of_type,
       t.spcname AS tablespace, c.relacl::text AS acl, s.srvname AS foreign_server
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam
  LEFT JOIN pg_catalog.pg_class toast ON toast.oid = c.reltoastrelid
  LEFT JOIN pg_catalog.pg_tablespace t ON t.oid = c.reltablespace
  LEFT JOIN pg_catalog.pg_foreign_table f ON f.ftrelid = c.oid
  LEFT JOIN pg_catalog.pg_foreign_server s ON s.oid = f.ftserver
 WHERE c.oid = ANY(%(oids)s::oid[])
"""

_PARENTS = """
SELECT i.inhrelid, i.inhparent, n.nspname AS schema_name, c.relname AS name
  FROM pg_catalog.pg_inherits i
  JOIN pg_catalog.pg_class c ON c.oid = i.inhparent
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE i.inhrelid = ANY(%(oids)s::oid[])
 ORDER BY i.inhrelid, i.inhseqno
"""


@dataclass(frozen=True)
class Parent:
    oid: int
    name: QualifiedName


@dataclass(frozen=True)
class Node:
    """A partition: its OID and its parent's."""

    oid: int
    parent: int


@dataclass
class Relations:
    """Every table asked for and every partition below, by OID."""

    asked: tuple[int, ...]
    rows: dict[int, Row] = field(default_factory=dict)
    parents: dict[int, list[Parent]] = field(default_factory=dict)
    partitions: dict[int, list[Node]] = field(default_factory=dict)

    @property
    def oids(self) -> list[int]:
        return list(self.rows)

    def name(self, oid: int) -> QualifiedName:
        return qualified(self.rows[oid])

    def created_with(self, oid: int) -> int | None:
        """The asked-for table whose partition tree holds this one, the topmost of them."""
        holders = [root for root in self.asked if any(n.oid == oid for n in self.partitions[root])]
        return max(holders, key=lambda root: len(self.partitions[root]), default=None)


def qualified(row: Row) -> QualifiedName:
    return QualifiedName(schema_name=row["schema_name"], name=row["name"])


def read_relations(cursor: Cursor, oids: Sequence[int]) -> Relations:
    detaching = since(cursor, POSTGRES_14, "i.inhdetachpending", "false")
    tree = rows(cursor, _TREE.format(detaching=detaching), oids=list(oids))
    found = [int(row["oid"]) for row in tree]
    relations = Relations(asked=tuple(dict.fromkeys(r["root"] for r in tree if not r["parent"])))
    relations.rows = {row["oid"]: row for row in rows(cursor, _RELATIONS, oids=found)}
    relations.parents = grouped(
        rows(cursor, _PARENTS, oids=found),
        lambda row: int(row["inhrelid"]),
        lambda row: Parent(row["inhparent"], qualified(row)),
    )
    below = [row for row in tree if row["parent"]]
    relations.partitions = {root: [] for root in relations.asked} | grouped(
        below, lambda row: int(row["root"]), lambda row: Node(row["oid"], row["parent"])
    )
    return relations
