"""What is there and is not recreated, said in words a person reads."""

from __future__ import annotations

from collections import defaultdict

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.postgres.definitions.reading import (
    POSTGRES_15,
    rows,
    since,
)
from vector_backup_pipeline.engine.postgres.definitions.relations import Relations
from vector_backup_pipeline.engine.table_definition import QualifiedName, Sequence

# A partition's copy of a trigger is named only if its parent's is not (then the partition alone is
# backed up). Internal triggers are left out: they belong to foreign keys. relacl is null until
# something is granted or revoked.
_OMISSIONS = sql.SQL("""
SELECT t.tgrelid AS relid, 'trigger ' || t.tgname AS what
  FROM pg_catalog.pg_trigger t
 WHERE t.tgrelid = ANY(%(oids)s::oid[]) AND NOT t.tgisinternal
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger above
                    WHERE above.oid = t.tgparentid AND above.tgrelid = ANY(%(oids)s::oid[]))
UNION ALL
SELECT r.ev_class, 'rule ' || r.rulename
  FROM pg_catalog.pg_rewrite r WHERE r.ev_class = ANY(%(oids)s::oid[])
UNION ALL
SELECT r.prrelid, 'publication ' || p.pubname
  FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid
 WHERE r.prrelid = ANY(%(oids)s::oid[])
UNION ALL
SELECT c.oid, 'publication ' || p.pubname || ' (of all tables)'
  FROM pg_catalog.pg_class c CROSS JOIN pg_catalog.pg_publication p
 WHERE c.oid = ANY(%(asked)s::oid[]) AND p.puballtables
{schema_publications}
UNION ALL
SELECT c.oid, 'grants ' || c.relacl::text
  FROM pg_catalog.pg_class c
 WHERE c.oid = ANY(%(oids)s::oid[]) AND c.relacl IS NOT NULL
UNION ALL
SELECT a.attrelid, 'grants on column ' || a.attname || ' ' || a.attacl::text
  FROM pg_catalog.pg_attribute a
 WHERE a.attrelid = ANY(%(oids)s::oid[]) AND a.attacl IS NOT NULL AND NOT a.attisdropped
UNION ALL
SELECT l.objoid, 'security label of ' || l.provider
           || COALESCE(' on column ' || a.attname, '')
  FROM pg_catalog.pg_seclabel l
  LEFT JOIN pg_catalog.pg_attribute a
    ON a.attrelid = l.objoid AND a.attnum = l.objsubid AND l.objsubid > 0
 WHERE l.classoid = 'pg_catalog.pg_class'::regclass AND l.objoid = ANY(%(oids)s::oid[])
UNION ALL
SELECT x.indrelid, 'tablespace ' || s.spcname || ' of index ' || i.relname
  FROM pg_catalog.pg_index x
  JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
  JOIN pg_catalog.pg_tablespace s ON s.oid = i.reltablespace
 WHERE x.indrelid = ANY(%(oids)s::oid[])
UNION ALL
SELECT x.indrelid, 'index ' || i.relname || ', which is invalid'
  FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
 WHERE x.indrelid = ANY(%(oids)s::oid[]) AND i.relkind = 'i'
   AND NOT (x.indislive AND x.indisvalid AND x.indisready)
 ORDER BY 1, 2
""")

_SCHEMA_PUBLICATIONS = """
UNION ALL
SELECT c.oid, 'publication ' || p.pubname || ' (of the schema)'
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_publication_namespace n ON n.pnnspid = c.relnamespace
  JOIN pg_catalog.pg_publication p ON p.oid = n.pnpubid
 WHERE c.oid = ANY(%(asked)s::oid[])
"""


def read_omissions(cursor: Cursor, relations: Relations) -> dict[int, list[str]]:
    """By table, not by its root: what the catalogs hold and no statement of ours makes again."""
    schema_publications = since(cursor, POSTGRES_15, _SCHEMA_PUBLICATIONS, "")
    query = _OMISSIONS.format(schema_publications=schema_publications)
    found: dict[int, list[str]] = defaultdict(list)
    for oid, row in relations.rows.items():
        if row["tablespace"]:
            found[oid].append("tablespace " + row["tablespace"])
        if row["foreign_server"]:
            server = row["foreign_server"]
            found[oid].append("foreign server " + server + ": becomes an ordinary table")
    for row in rows(cursor, query, oids=relations.oids, asked=list(relations.asked)):
        found[row["relid"]].append(row["what"])
    return found


def of_sequences(sequences: list[Sequence]) -> list[str]:
    return [
        "last value of sequence "
        + str(each)
        + ", which the role may not read: a restore sets it by the values of "
        + each.column
        for each in sequences
        if each.last_value is None
    ]


def large_objects(column: str) -> str:
    return "large objects of column " + column + ": the backup holds only their OIDs"


def about(table: QualifiedName, whose: QualifiedName, what: str) -> str:
    """Partitions say which they are; the table itself need not."""
    return what if table == whose else "partition " + str(whose) + ": " + what
