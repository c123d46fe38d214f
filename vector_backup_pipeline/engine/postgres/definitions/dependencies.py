"""What the tables need first (pg_depend): extensions, types with the statements that create them,
and the addresses of other objects, which the target must have.

The server's own objects are pinned or have OIDs below 16384 (FirstNormalObjectId), so the walk
meets only what users and extensions created. It ends at extensions and at objects that are not
recreated.
"""

from collections.abc import Iterable
from itertools import groupby
from operator import itemgetter
from typing import TypeAlias

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.postgres.definitions.reading import TABLE_OBJECTS, Catalog, rows
from vector_backup_pipeline.engine.postgres.definitions.tables import COLLATION
from vector_backup_pipeline.engine.table_definition import (
    Dependency,
    Kind,
    ObjectAddress,
    Statement,
)

# An object: its catalog's name and its OID.
Object: TypeAlias = tuple[str, int]

# pg_depend treats a table's columns as the table, so OIDs are enough. Beyond pg_depend, a domain
# needs what its constraints need, a composite type what its pg_class entry needs, and an array its
# element.
_EDGES = sql.SQL("""
WITH RECURSIVE roots AS ({table_objects}), walk(classid, objid, refclassid, refobjid) AS (
    SELECT 'pg_class'::regclass::oid, relid, classid::oid, objid FROM roots
    UNION
    SELECT w.refclassid, w.refobjid, d.refclassid, d.refobjid
      FROM walk w
     CROSS JOIN LATERAL (
           SELECT d.refclassid, d.refobjid, d.deptype
             FROM pg_depend d
            WHERE d.classid = w.refclassid AND d.objid = w.refobjid
              AND d.deptype IN ('n', 'a', 'i', 'e')
           UNION ALL
           SELECT 'pg_constraint'::regclass, k.oid, 'n'
             FROM pg_constraint k
            WHERE w.refclassid = 'pg_type'::regclass AND k.contypid = w.refobjid
           UNION ALL
           SELECT v.class, v.oid, 'n'
             FROM pg_type t
            CROSS JOIN LATERAL (VALUES ('pg_type'::regclass, t.typelem),
                  ('pg_class'::regclass, t.typrelid)) v(class, oid)
            WHERE w.refclassid = 'pg_type'::regclass AND t.oid = w.refobjid
           ) d
     WHERE d.refobjid >= 16384
       -- Of a member of an extension, and of what is not recreated, only the extension counts.
       AND (d.deptype = 'e' OR (
            w.refclassid IN ('pg_class'::regclass, 'pg_type'::regclass,
                'pg_attrdef'::regclass, 'pg_constraint'::regclass,
                'pg_policy'::regclass, 'pg_statistic_ext'::regclass,
                'pg_extension'::regclass)
            AND NOT EXISTS (SELECT FROM pg_depend e
                             WHERE e.classid = w.refclassid AND e.objid = w.refobjid
                               AND e.deptype = 'e')))
       -- Other tables and sequences are not needed first. A foreign table becomes an ordinary one.
       AND d.refclassid <> 'pg_foreign_server'::regclass
       AND NOT EXISTS (SELECT FROM pg_class c
                        WHERE d.refclassid = 'pg_class'::regclass
                          AND c.oid = d.refobjid AND c.relkind <> 'c')
)
SELECT classid::regclass::text AS class, objid AS oid, refclassid::regclass::text AS needed_class,
       refobjid AS needed
  FROM walk WHERE (classid, objid) <> (refclassid, refobjid)
""").format(table_objects=TABLE_OBJECTS)

_EXTENSIONS = """
SELECT e.oid, 'extension' AS kind, e.extname AS name, e.extversion AS version,
       n.nspname AS schema_name
  FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
 WHERE e.oid = ANY(%(oids)s::oid[])
"""

# `number` orders a type's statements. A domain's NOT NULL is a constraint of its own from
# PostgreSQL 17 on; typnotnull tells it everywhere.
_TYPES = sql.SQL("""
WITH named AS (
    SELECT t.*, t.typcollation AS attcollation, n.nspname,
           format('%%I.%%I', n.nspname, t.typname) AS full_name,
           CASE t.typtype WHEN 'd' THEN 'DOMAIN' ELSE 'TYPE' END AS object
      FROM pg_type t
      JOIN pg_namespace n ON n.oid = t.typnamespace
      LEFT JOIN pg_class c ON c.oid = t.typrelid
     WHERE t.oid = ANY(%(oids)s::oid[])
       AND (t.typtype IN ('e', 'd') OR (t.typtype = 'c' AND c.relkind = 'c'))
), domain_check AS (
    SELECT k.contypid, k.oid, k.conname, k.contype, k.convalidated,
           format('CONSTRAINT %%I %%s', k.conname, pg_get_constraintdef(k.oid)) AS sql
      FROM pg_constraint k JOIN named ON named.oid = k.contypid
), attribute AS (
    SELECT named.oid, named.full_name, a.attnum, a.attname, a.attrelid, concat_ws(' ',
               quote_ident(a.attname),
               format_type(a.atttypid, a.atttypmod), {collation}) AS sql
      FROM named
      JOIN pg_attribute a ON a.attrelid = named.typrelid
      JOIN pg_type t ON t.oid = a.atttypid
     WHERE a.attnum > 0 AND NOT a.attisdropped
), made(oid, number, kind, sql) AS (
    SELECT oid, 1, 'type', format('CREATE TYPE %%s AS ENUM (%%s)', full_name, (
               SELECT string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder)
                 FROM pg_enum e WHERE e.enumtypid = named.oid))
      FROM named WHERE typtype = 'e'
    UNION ALL
    SELECT oid, 1, 'type', format('CREATE TYPE %%s AS (%%s)', full_name, (
               SELECT string_agg(a.sql, ', ' ORDER BY a.attnum)
                 FROM attribute a WHERE a.oid = named.oid))
      FROM named WHERE typtype = 'c'
    UNION ALL
    SELECT a.oid, 1, 'domain', concat_ws(' ', 'CREATE DOMAIN', full_name, 'AS',
               format_type(a.typbasetype, a.typtypmod), {collation},
               'DEFAULT ' || pg_get_expr(a.typdefaultbin, 0),
               CASE WHEN a.typnotnull THEN COALESCE((
                   SELECT k.sql FROM domain_check k WHERE k.contypid = a.oid AND k.contype = 'n'),
                   'NOT NULL') END,
               (SELECT string_agg(k.sql, ' ' ORDER BY k.conname) FROM domain_check k
                 WHERE k.contypid = a.oid AND k.contype = 'c' AND k.convalidated))
      FROM named a JOIN pg_type t ON t.oid = a.typbasetype
     WHERE a.typtype = 'd'
    UNION ALL
    SELECT named.oid, 2, 'domain constraint',
           format('ALTER DOMAIN %%s ADD %%s', full_name, k.sql)
      FROM named JOIN domain_check k ON k.contypid = named.oid
     WHERE k.contype = 'c' AND NOT k.convalidated
    UNION ALL
    SELECT oid, 3, 'comment', format('COMMENT ON %%s %%s IS %%L', object, full_name,
               obj_description(oid, 'pg_type'))
      FROM named WHERE obj_description(oid, 'pg_type') IS NOT NULL
    UNION ALL
    SELECT oid, 3, 'comment', format('COMMENT ON COLUMN %%s.%%I IS %%L', full_name,
               attname, col_description(attrelid, attnum))
      FROM attribute WHERE col_description(attrelid, attnum) IS NOT NULL
    UNION ALL
    SELECT named.oid, 3, 'comment', format(
               'COMMENT ON CONSTRAINT %%I ON DOMAIN %%s IS %%L', k.conname, full_name,
               obj_description(k.oid, 'pg_constraint'))
      FROM named JOIN domain_check k ON k.contypid = named.oid
     WHERE obj_description(k.oid, 'pg_constraint') IS NOT NULL
)
SELECT made.oid, made.kind, named.nspname AS schema_name, named.typname AS name, made.sql
  FROM made JOIN named USING (oid)
 ORDER BY made.oid, made.number, made.sql
""").format(collation=COLLATION)

# Not of array and multirange types, which come with another type.
_ADDRESSES = """
SELECT u.class::text AS class, u.oid, a.type AS kind, a.object_names AS names,
       a.object_args AS arguments, e.extname AS extension,
       pg_describe_object(u.class, u.oid, 0) AS description
  FROM unnest(%(classes)s::regclass[], %(objects)s::oid[]) u(class, oid)
 CROSS JOIN LATERAL pg_identify_object_as_address(u.class, u.oid, 0) a
  LEFT JOIN pg_depend d
    ON d.classid = u.class AND d.objid = u.oid AND d.deptype = 'e'
  LEFT JOIN pg_extension e ON e.oid = d.refobjid
 WHERE NOT EXISTS (
       SELECT FROM pg_type t
        WHERE u.class = 'pg_type'::regclass AND t.oid = u.oid
          AND ((t.typcategory = 'A' AND t.typelem <> 0) OR t.typtype = 'm'))
"""

# Catalogs of objects between a table and its dependencies, which are created with one of them.
_INTERMEDIATE_CATALOGS = {
    *("pg_attrdef", "pg_class", "pg_constraint", "pg_namespace", "pg_policy", "pg_statistic_ext")
}


class NeededObjects:
    """What the tables of a catalog need first: dependencies, which a restore creates, and the
    addresses of other objects."""

    def __init__(self, catalog: Catalog) -> None:
        self._needs: dict[Object, list[Object]] = {}  # Edges from each object to what it needs.
        for row in catalog.rows(_EDGES):
            needed = row["needed_class"], row["needed"]
            self._needs.setdefault((row["class"], row["oid"]), []).append(needed)
        needed_objects = {thing for edges in self._needs.values() for thing in edges}
        addresses = _read_addresses(
            catalog.cursor,
            [thing for thing in needed_objects if thing[0] not in _INTERMEDIATE_CATALOGS],
        )
        dependencies = _read_dependencies(catalog.cursor, addresses)
        self._objects: dict[Object, Dependency | ObjectAddress] = {**addresses, **dependencies}

    def needed_by(self, tables: Iterable[int]) -> list[Dependency | ObjectAddress]:
        """In creation order."""
        visited: set[Object] = set()
        order: list[Object] = []

        def visit(thing: Object) -> None:
            if thing not in visited:
                visited.add(thing)
                for needed in sorted(self._needs.get(thing, ())):
                    visit(needed)
                order.append(thing)

        for table in tables:
            visit(("pg_class", table))
        return [self._objects[thing] for thing in order if thing in self._objects]


def _read_addresses(cursor: Cursor, objects: list[Object]) -> dict[Object, ObjectAddress]:
    address_rows = rows(
        cursor,
        _ADDRESSES,
        classes=[name for name, _ in objects],
        objects=[oid for _, oid in objects],
    )
    return {(row.pop("class"), row.pop("oid")): ObjectAddress(**row) for row in address_rows}


def _read_dependencies(
    cursor: Cursor, addresses: dict[Object, ObjectAddress]
) -> dict[Object, Dependency]:
    """Extensions, and types that no extension brings."""
    oids = [oid for name, oid in addresses if name == "pg_extension"]
    dependencies: dict[Object, Dependency] = {
        ("pg_extension", row.pop("oid")): Dependency(**row)
        for row in rows(cursor, _EXTENSIONS, oids=oids)
    }
    own = [thing for thing, address in addresses.items() if address.extension is None]
    oids = [oid for name, oid in own if name == "pg_type"]
    type_rows = rows(cursor, _TYPES, oids=oids) if oids else []
    for oid, rows_of_type in groupby(type_rows, key=itemgetter("oid")):
        ddl = [
            Statement(Kind(row["kind"]), row["schema_name"], row["name"], row["sql"])
            for row in rows_of_type
        ]
        schema, name = ddl[0].qualified_name
        dependencies["pg_type", oid] = Dependency(
            kind="type", schema_name=schema, name=name, ddl=tuple(ddl)
        )
    return dependencies
