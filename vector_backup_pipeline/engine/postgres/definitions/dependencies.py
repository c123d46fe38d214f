"""pg_depend: what the tables need first, found by walking from object to object.

The server's own objects are pinned or have OIDs below FIRST_USER_OID, so the walk meets only what
users and extensions made. It stops at extension members (the extension brings them), at functions,
operators, base types and text search objects (not recreated, named) and at other tables.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.postgres.definitions.reading import FIRST_USER_OID, rows

# An object: its catalog's name and its OID.
Object = tuple[str, int]

# pg_depend holds no column of an object apart from its table, so OIDs are enough.
_ROOTS = """
SELECT relid, class::text, oid FROM (
    SELECT c.oid AS relid, 'pg_catalog.pg_class'::regclass AS class, c.oid
      FROM pg_catalog.pg_class c WHERE c.oid = ANY(%(oids)s::oid[])
    UNION ALL
    SELECT x.indrelid, 'pg_catalog.pg_class'::regclass, x.indexrelid
      FROM pg_catalog.pg_index x WHERE x.indrelid = ANY(%(oids)s::oid[])
    UNION ALL
    SELECT d.adrelid, 'pg_catalog.pg_attrdef'::regclass, d.oid
      FROM pg_catalog.pg_attrdef d WHERE d.adrelid = ANY(%(oids)s::oid[])
    UNION ALL
    SELECT k.conrelid, 'pg_catalog.pg_constraint'::regclass, k.oid
      FROM pg_catalog.pg_constraint k
     WHERE k.conrelid = ANY(%(oids)s::oid[]) AND k.contype <> 't'
    UNION ALL
    SELECT p.polrelid, 'pg_catalog.pg_policy'::regclass, p.oid
      FROM pg_catalog.pg_policy p WHERE p.polrelid = ANY(%(oids)s::oid[])
    UNION ALL
    SELECT s.stxrelid, 'pg_catalog.pg_statistic_ext'::regclass, s.oid
      FROM pg_catalog.pg_statistic_ext s WHERE s.stxrelid = ANY(%(oids)s::oid[])
) roots
"""

# What pg_depend has in the other direction: a domain needs its constraints' functions, a composite
# type its pg_class entry's attribute types, a multirange its range.
_STEP = """
WITH asked(class, oid) AS (
    SELECT * FROM unnest(%(classes)s::regclass[], %(objects)s::oid[])
)
SELECT a.class::regclass::text AS class, a.oid, d.refclassid::regclass::text AS needed_class,
       d.refobjid AS needed, d.deptype = 'e' AS member
  FROM asked a JOIN pg_catalog.pg_depend d ON d.classid = a.class AND d.objid = a.oid
 WHERE d.deptype IN ('n', 'a', 'i', 'e')
UNION
SELECT a.class::regclass::text, a.oid, 'pg_constraint', k.oid, false
  FROM asked a JOIN pg_catalog.pg_constraint k ON k.contypid = a.oid
 WHERE a.class = 'pg_catalog.pg_type'::regclass
UNION
SELECT a.class::regclass::text, a.oid, 'pg_class', t.typrelid, false
  FROM asked a
  JOIN pg_catalog.pg_type t ON t.oid = a.oid AND t.typtype = 'c'
  JOIN pg_catalog.pg_class c ON c.oid = t.typrelid AND c.relkind = 'c'
 WHERE a.class = 'pg_catalog.pg_type'::regclass
UNION
SELECT a.class::regclass::text, a.oid, 'pg_type', t.typelem, false
  FROM asked a JOIN pg_catalog.pg_type t ON t.oid = a.oid AND t.typelem <> 0
 WHERE a.class = 'pg_catalog.pg_type'::regclass
"""

_STOPS = """
SELECT 'pg_class' AS class, c.oid FROM pg_catalog.pg_class c
 WHERE c.oid = ANY(%(relations)s::oid[]) AND c.relkind <> 'c'
"""

_LEAVES = frozenset(
    {
        "pg_am",
        "pg_foreign_server",
        "pg_namespace",
        "pg_opclass",
        "pg_operator",
        "pg_opfamily",
        "pg_proc",
        "pg_ts_config",
        "pg_ts_dict",
    }
)


@dataclass
class Graph:
    """Edges from each object to what it needs; an extension's members need just the extension."""

    roots: dict[int, set[Object]]
    needs: dict[Object, list[Object]] = field(default_factory=dict)
    members: set[Object] = field(default_factory=set)

    def in_creation_order(self, tables: Iterable[int]) -> list[Object]:
        """Everything below these tables, each after what it needs; roots themselves left out."""
        own = {each for table in self.roots for each in self.roots[table]}
        done: dict[Object, None] = {}
        for table in tables:
            for root in sorted(self.roots.get(table, ())):
                self._visit(root, done, set())
        return [each for each in done if each not in own]

    def _visit(self, thing: Object, done: dict[Object, None], under_way: set[Object]) -> None:
        if thing in done or thing in under_way:
            return
        under_way.add(thing)
        for needed in sorted(self.needs.get(thing, ())):
            self._visit(needed, done, under_way)
        done[thing] = None


def read_graph(cursor: Cursor, oids: list[int], sequences: dict[int, list[int]]) -> Graph:
    roots: dict[int, set[Object]] = defaultdict(set)
    for row in rows(cursor, _ROOTS, oids=oids):
        roots[row["relid"]].add((row["class"], row["oid"]))
    for table, used in sequences.items():
        roots[table] |= {("pg_class", oid) for oid in used}
    graph = Graph(roots)
    frontier = {each for objects in roots.values() for each in objects}
    known = frontier | {("pg_class", oid) for oid in oids}
    while frontier:
        reached = _step(cursor, graph, frontier)
        fresh = reached - known
        known |= fresh
        frontier = _without_stops(cursor, fresh)
    return graph


def _step(cursor: Cursor, graph: Graph, frontier: set[Object]) -> set[Object]:
    asked = sorted(frontier)
    found = rows(
        cursor,
        _STEP,
        classes=["pg_catalog." + thing[0] for thing in asked],
        objects=[thing[1] for thing in asked],
    )
    graph.members |= {(row["class"], row["oid"]) for row in found if row["member"]}
    reached: set[Object] = set()
    for row in found:
        thing, needed = (row["class"], row["oid"]), (row["needed_class"], row["needed"])
        if needed == thing or needed[1] < FIRST_USER_OID:
            continue
        if not row["member"] and (thing in graph.members or thing[0] in _LEAVES):
            continue
        graph.needs.setdefault(thing, []).append(needed)
        reached.add(needed)
    return reached


def _without_stops(cursor: Cursor, frontier: set[Object]) -> set[Object]:
    """Other tables, which a foreign key or a policy names, are not ours to recreate."""
    relations = [oid for name, oid in frontier if name == "pg_class"]
    if not relations:
        return frontier
    stops = rows(cursor, _STOPS, relations=relations)
    return frontier - {(row["class"], row["oid"]) for row in stops}
