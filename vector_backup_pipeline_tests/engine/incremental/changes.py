"""Statements that change two tables in every way that matters to an incremental backup."""

from __future__ import annotations

from hypothesis import strategies as st

# `parts` has a third partition that is detached and attached.
TABLES = """
    CREATE TYPE mood AS ENUM ('sad', 'glad');
    CREATE TABLE docs (id int, tag text, body text, number int, mood mood, v vector(2),
        PRIMARY KEY (id, tag));
    CREATE INDEX docs_tag ON docs (tag);
    INSERT INTO docs SELECT i, 'tag', repeat('x', 300) || i, i, 'sad', ARRAY[i, 1]::vector
        FROM generate_series(1, 60) i;
    CREATE TABLE parts (id int, part int, body text, PRIMARY KEY (id, part))
        PARTITION BY LIST (part);
    CREATE TABLE parts_0 PARTITION OF parts FOR VALUES IN (0);
    CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
    CREATE TABLE parts_2 (body text, gone int, part int NOT NULL, id int NOT NULL);
    ALTER TABLE parts_2 DROP gone;
    ALTER TABLE parts ATTACH PARTITION parts_2 FOR VALUES IN (2);
    INSERT INTO parts SELECT i, i % 3, repeat('y', 300) || i FROM generate_series(1, 60) i;
"""

_LONG = "(SELECT string_agg(md5(i::text), '') FROM generate_series(1, {id} + 150) i)"
_BODIES = ("'new'", "''", "NULL", "E'line\\n\"quoted\",'", "repeat('z', 9000)", _LONG)
_ROWS = (
    "INSERT INTO {table} (id, {key}, body) SELECT i, {value}, {body}"
    " FROM generate_series({id}, {id} + 2) i ON CONFLICT DO NOTHING",
    "INSERT INTO {table} (id, {key}, body) SELECT i, {value}, {body}"
    " FROM generate_series({id}, {id} + 2) i ON CONFLICT (id, {key}) DO UPDATE SET body = {body}",
    "UPDATE {table} SET body = {body} WHERE id BETWEEN {id} AND {id} + 1",
    "UPDATE {table} SET body = body WHERE id = {id}",
    "UPDATE {table} SET {key} = {value} WHERE id = {id}",
    "UPDATE {table} SET id = {other} WHERE id = {id}",
    # Two keys change places.
    "UPDATE {table} SET id = -1 WHERE id = {id}; UPDATE {table} SET id = {id} WHERE id = {other};"
    " UPDATE {table} SET id = {other} WHERE id = -1",
    "DELETE FROM {table} WHERE id BETWEEN {id} AND {id} + 1",
    # A row is deleted and inserted again.
    "DO $$ DECLARE kept {table}; BEGIN DELETE FROM {table} WHERE id = {id} RETURNING * INTO kept;"
    " IF FOUND THEN INSERT INTO {table} VALUES (kept.*); END IF; END $$",
    "MERGE INTO {table} USING (VALUES ({id})) AS n (id) ON {table}.id = n.id"
    " WHEN MATCHED THEN UPDATE SET body = {body}"
    " WHEN NOT MATCHED THEN INSERT (id, {key}, body) VALUES (n.id, {value}, {body})",
    "SELECT FROM {table} WHERE id BETWEEN {id} AND {id} + 9 FOR UPDATE",
    "SELECT FROM {table} WHERE id BETWEEN {id} AND {id} + 9 FOR KEY SHARE",
)
_DOCS_ROWS = (
    "UPDATE docs SET number = coalesce(number, 0) + 1, mood = (enum_range(NULL::mood))[1 + {id}%2]"
    " WHERE id = {id}",
    "UPDATE docs SET v = NULL WHERE id BETWEEN {id} AND {id} + 1",
)
_ALL_ROWS = ("DELETE FROM {table}", "UPDATE {table} SET body = 'all'")
_MAINTENANCE = (
    "VACUUM {table}",
    "VACUUM FREEZE {table}",
    "VACUUM (INDEX_CLEANUP off, TRUNCATE off) {table}",
    "VACUUM FULL {table}",
    "CLUSTER docs USING docs_tag",
    "ANALYZE {table}",
    "VACUUM FULL pg_attribute",
    "CHECKPOINT",
)
_DEFINITIONS = (
    "TRUNCATE {table}",
    "TRUNCATE parts_0",
    "ALTER TABLE {table} ADD IF NOT EXISTS extra int DEFAULT {id}",
    "ALTER TABLE {table} DROP IF EXISTS extra",
    # Nothing but the values differs afterwards.
    "ALTER TABLE {table} DROP IF EXISTS extra; ALTER TABLE {table} ADD extra int DEFAULT {id}",
    "ALTER TABLE {table} ALTER body TYPE varchar",
    "ALTER TABLE {table} ALTER body TYPE text",
    "ALTER TABLE docs ALTER number TYPE bigint",
    "ALTER TABLE docs ALTER number TYPE int",
    "ALTER TABLE docs ALTER number TYPE int USING number + 1",
    "ALTER TABLE docs ALTER number SET DEFAULT {id}",
    "ALTER TABLE docs SET (fillfactor = 50)",
    "ALTER TABLE docs SET UNLOGGED",
    "DO $$ BEGIN EXECUTE format('ALTER TYPE mood RENAME VALUE %L TO %L',"
    " (enum_range(NULL::mood))[1], (enum_range(NULL::mood))[1] || 'er'); END $$",
    "ALTER TYPE mood ADD VALUE IF NOT EXISTS 'new{id}'",
    "ALTER TABLE parts DETACH PARTITION parts_2",
    "ALTER TABLE parts ATTACH PARTITION parts_2 FOR VALUES IN (2)",
    "ALTER TABLE parts DETACH PARTITION parts_2; UPDATE parts_2 SET body = 'apart' WHERE id = 2;"
    " ALTER TABLE parts ATTACH PARTITION parts_2 FOR VALUES IN (2)",
    "ALTER TABLE docs DROP CONSTRAINT docs_pkey; UPDATE docs SET body = 'free' WHERE id = {id};"
    " ALTER TABLE docs ADD PRIMARY KEY (id, tag)",
)


def _statements(*templates: str, tables: tuple[str, ...] = ("docs", "parts")) -> st.SearchStrategy:
    def fill(template: str, table: str, id: int, other: int, body: str, part: int) -> str:
        value = f"'tag{part}'" if table == "docs" else str(part)
        return template.format(
            table=table,
            id=id,
            other=other,
            body=body.format(id=id),
            key="tag" if table == "docs" else "part",
            value=value,
        )

    keys = st.integers(1, 70)
    return st.builds(
        fill,
        st.sampled_from(templates),
        st.sampled_from(tables),
        keys,
        keys,
        st.sampled_from(_BODIES),
        st.integers(0, 2),
    )


# Few rows each, so that most backups stay incremental.
row_changes: st.SearchStrategy[str] = st.one_of(
    _statements(*_ROWS), _statements(*_ROWS), _statements(*_DOCS_ROWS)
)
changes_of_all_rows: st.SearchStrategy[str] = _statements(*_ALL_ROWS)
maintenance: st.SearchStrategy[str] = _statements(*_MAINTENANCE)
definition_changes: st.SearchStrategy[str] = _statements(*_DEFINITIONS)
