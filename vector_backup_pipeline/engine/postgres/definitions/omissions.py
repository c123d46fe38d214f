"""Properties of the tables that are not recreated, as text for the user."""

from collections.abc import Iterator, Sequence

from psycopg2 import sql

from vector_backup_pipeline.engine.postgres.definitions.reading import VALID_INDEX, Catalog
from vector_backup_pipeline.engine.postgres.definitions.sequences import UsedSequence
from vector_backup_pipeline.engine.table_definition import Column, Omission, OmissionKind

# A partition's copy of a trigger is named only if its parent's is not (then the partition alone is
# backed up). Internal triggers belong to foreign keys. relacl is null until something is granted. A
# publication of all tables, or of a schema, has the new table by itself.
_OMISSIONS = sql.SQL("""
WITH c AS (
    SELECT * FROM pg_class c WHERE c.oid = ANY(%(oids)s::oid[])
)
SELECT c.oid, 'trigger' AS kind, 'trigger ' || t.tgname AS text
  FROM c JOIN pg_trigger t ON t.tgrelid = c.oid
 WHERE NOT t.tgisinternal
   AND NOT EXISTS (SELECT FROM pg_trigger above JOIN c p ON p.oid = above.tgrelid
                    WHERE above.oid = t.tgparentid)
UNION ALL
SELECT c.oid, 'rule', 'rule ' || r.rulename
  FROM c JOIN pg_rewrite r ON r.ev_class = c.oid
UNION ALL
SELECT c.oid, 'publication', 'publication ' || p.pubname
  FROM c
  JOIN pg_publication_rel r ON r.prrelid = c.oid
  JOIN pg_publication p ON p.oid = r.prpubid
UNION ALL
SELECT c.oid, 'grant', 'grants ' || c.relacl::text FROM c WHERE c.relacl IS NOT NULL
UNION ALL
SELECT c.oid, 'grant', 'grants on column ' || a.attname || ' ' || a.attacl::text
  FROM c JOIN pg_attribute a ON a.attrelid = c.oid
 WHERE a.attacl IS NOT NULL AND NOT a.attisdropped
UNION ALL
SELECT u.relid, 'grant', 'grants on sequence ' || n.nspname || '.' || s.relname
  FROM unnest(%(users)s::oid[], %(sequences)s::oid[]) u(relid, oid)
  JOIN pg_class s ON s.oid = u.oid
  JOIN pg_namespace n ON n.oid = s.relnamespace
 WHERE s.relacl IS NOT NULL
UNION ALL
SELECT c.oid, 'security label',
       'security label of ' || l.provider || COALESCE(' on column ' || a.attname, '')
  FROM c
  JOIN pg_seclabel l
    ON l.objoid = c.oid AND l.classoid = 'pg_class'::regclass
  LEFT JOIN pg_attribute a
    ON a.attrelid = l.objoid AND a.attnum = l.objsubid AND l.objsubid > 0
UNION ALL
SELECT c.oid, 'tablespace', 'tablespace ' || s.spcname
  FROM c JOIN pg_tablespace s ON s.oid = c.reltablespace
UNION ALL
SELECT c.oid, v.kind, v.text
  FROM c
  JOIN pg_index x ON x.indrelid = c.oid
  JOIN pg_class i ON i.oid = x.indexrelid
  LEFT JOIN pg_tablespace s ON s.oid = i.reltablespace
 CROSS JOIN LATERAL (VALUES
       ('tablespace', 'tablespace ' || s.spcname || ' of index ' || i.relname),
       ('invalid index', CASE WHEN NOT ({valid_index}) THEN
           'index ' || i.relname || ', which is invalid' END)) v(kind, text)
 WHERE v.text IS NOT NULL
UNION ALL
SELECT c.oid, 'foreign server', 'foreign server ' || s.srvname || ': becomes an ordinary table'
  FROM c
  JOIN pg_foreign_table f ON f.ftrelid = c.oid
  JOIN pg_foreign_server s ON s.oid = f.ftserver
UNION ALL
SELECT c.oid, 'structure', 'type ' || format_type(c.reloftype, NULL) || ' of the table'
  FROM c WHERE c.reloftype <> 0
UNION ALL
SELECT c.oid, 'structure', CASE WHEN c.relispartition THEN 'attachment as a partition of '
           ELSE 'inheritance from ' END || n.nspname || '.' || p.relname
           || COALESCE(' ' || pg_get_expr(c.relpartbound, 0), '')
  FROM c
  JOIN pg_inherits h ON h.inhrelid = c.oid
  JOIN pg_class p ON p.oid = h.inhparent
  JOIN pg_namespace n ON n.oid = p.relnamespace
 WHERE c.oid <> ALL(%(partitions)s::oid[])
UNION ALL
-- From PostgreSQL 17 on, partitions share their root's identity; before, some had one of their own.
SELECT c.oid, 'structure', 'identity of column ' || a.attname
  FROM c JOIN pg_attribute a ON a.attrelid = c.oid
 WHERE a.attidentity <> '' AND a.attnum > 0 AND NOT a.attisdropped
   AND (c.oid = ANY(%(partitions)s::oid[])) = EXISTS (
       SELECT FROM pg_depend d
        WHERE d.classid = 'pg_class'::regclass AND d.refclassid = d.classid
          AND d.refobjid = c.oid AND d.refobjsubid = a.attnum AND d.deptype = 'i')
 ORDER BY 1, 2, 3
""").format(valid_index=VALID_INDEX)


def read_omissions(catalog: Catalog) -> Iterator[tuple[int, Omission]]:
    """By the OID of the table or partition. Partitions state which they are."""
    for row in catalog.rows(_OMISSIONS):
        is_partition = row["oid"] in catalog.parameters["partitions"]
        prefix = f"partition {catalog.names[row['oid']]}: " if is_partition else ""
        yield row["oid"], Omission(kind=row["kind"], text=prefix + row["text"])


def computed_omissions(
    columns: Sequence[Column], sequences: Sequence[UsedSequence]
) -> Iterator[Omission]:
    for column in columns:
        if column.type.is_large_object:
            yield Omission(
                kind=OmissionKind.LARGE_OBJECTS,
                text=f"large objects of column {column.name}: the backup has only their OIDs",
            )
    for sequence in (used.definition for used in sequences):
        if sequence.last_value is None:
            yield Omission(
                kind=OmissionKind.SEQUENCE_VALUE,
                text=f"last value of sequence {sequence}, which the role may not read: a restore "
                f"sets it from the values of {sequence.column}",
            )
