"""Comments (pg_description) on tables and on what belongs to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.postgres.definitions.reading import TABLE_OBJECTS, statements
from vector_backup_pipeline.engine.postgres.definitions.sequences import UsedSequence
from vector_backup_pipeline.engine.table_definition import Statement

# An object's address begins with schema and name of the relation or statistics object.
_COMMENTS = sql.SQL("""
WITH object AS ({table_objects}
    UNION ALL
    SELECT u.relid, 'pg_catalog.pg_class'::regclass, u.oid
      FROM unnest(%(users)s::oid[], %(sequences)s::oid[]) u(relid, oid)
)
SELECT o.relid AS oid, 'comment' AS kind, a.object_names[1] AS schema_name,
       a.object_names[2] AS name,
       pg_catalog.format('COMMENT ON ' || v.target || ' IS %%4$L', a.object_names[1],
           a.object_names[2], a.object_names[3], d.description) AS sql
  FROM object o
  JOIN pg_catalog.pg_description d ON d.classoid = o.classid AND d.objoid = o.objid
 CROSS JOIN LATERAL
       pg_catalog.pg_identify_object_as_address(d.classoid, d.objoid, d.objsubid) a
  JOIN (VALUES
       ('table', 'TABLE %%1$I.%%2$I'), ('foreign table', 'TABLE %%1$I.%%2$I'),
       ('table column', 'COLUMN %%1$I.%%2$I.%%3$I'),
       ('foreign table column', 'COLUMN %%1$I.%%2$I.%%3$I'),
       ('table constraint', 'CONSTRAINT %%3$I ON %%1$I.%%2$I'),
       ('policy', 'POLICY %%3$I ON %%1$I.%%2$I'), ('index', 'INDEX %%1$I.%%2$I'),
       ('statistics object', 'STATISTICS %%1$I.%%2$I'), ('sequence', 'SEQUENCE %%1$I.%%2$I')
       ) v(type, target) USING (type)
 ORDER BY o.relid, 5
""").format(table_objects=TABLE_OBJECTS)


def read_comments(
    cursor: Cursor, oids: list[int], sequences: Sequence[UsedSequence]
) -> Iterator[tuple[int, Statement]]:
    """By the table's OID; those on sequences by the table that uses them."""
    return statements(
        cursor,
        _COMMENTS,
        oids=oids,
        users=[sequence.table for sequence in sequences],
        sequences=[sequence.oid for sequence in sequences],
    )
