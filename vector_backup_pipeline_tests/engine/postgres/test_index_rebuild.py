"""Indexes are dropped for a load and recreated exactly, compared by pg_dump."""

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.postgres.index_rebuild import (
    drop_indexes,
    rebuild_indexes,
    rebuildable_indexes,
)
from vector_backup_pipeline.engine.table_definition import Index
from vector_backup_pipeline_tests.fix_postgres import Database
from vector_backup_pipeline_tests.fix_restore import pg_dump

DOCS = """
    CREATE SCHEMA app;
    CREATE TABLE app.parents (id int PRIMARY KEY);
    CREATE TABLE app.docs (
        id int PRIMARY KEY, v vector(3), half halfvec(3), words text, flags int, code text UNIQUE,
        parent int REFERENCES app.parents DEFERRABLE INITIALLY DEFERRED
    );
    INSERT INTO app.parents VALUES (1);
    INSERT INTO app.docs (id, v, words) SELECT i, ARRAY[i, 1, -i]::vector, 'w' || i
      FROM generate_series(1, 50) i;
    SET CONSTRAINTS ALL IMMEDIATE;
"""
# Whatever an index can have: options, a predicate, an expression, a collation, an odd name.
INDEXES = """
    CREATE INDEX docs_v ON app.docs USING hnsw (v vector_cosine_ops)
        WITH (m = 8, ef_construction = 32);
    CREATE INDEX docs_v_ivf ON app.docs USING ivfflat (v vector_l2_ops) WITH (lists = 2);
    CREATE INDEX docs_sparse ON app.docs USING hnsw ((v::halfvec(3)) halfvec_l2_ops)
        WHERE id % 2 = 0;
    CREATE INDEX "docs %s {0}" ON app.docs (lower(words), (flags % 7) DESC)
        INCLUDE (code) WITH (fillfactor = 70);
    CREATE INDEX docs_words ON app.docs USING gin (to_tsvector('english', words));
"""


@contextmanager
def transaction(database: Database, url: str | None = None) -> Iterator[Cursor]:
    with database.session(url) as connection, connection.cursor() as cursor:
        cursor.execute("SET LOCAL search_path = ''")
        yield cursor
        connection.commit()


def oid_of(database: Database, table: str) -> int:
    return int(database.ask_one("SELECT %s::regclass::oid", [table]))


def rebuildable(database: Database, table: str, url: str | None = None) -> list[str]:
    with transaction(database, url) as cursor:
        indexes = rebuildable_indexes(cursor, oid_of(database, table))
    return sorted(index.name for index in indexes)


def test_a_schema_is_the_same_after_the_indexes_were_away(any_database: Database) -> None:
    any_database.run(DOCS)
    any_database.run(INDEXES)
    before = pg_dump(any_database, "--schema-only")
    built: list[str] = []

    def note(index: Index) -> None:
        built.append(index.name)

    with transaction(any_database) as cursor:
        indexes = rebuildable_indexes(cursor, oid_of(any_database, "app.docs"))
        drop_indexes(cursor, indexes)
        # A deferred foreign key leaves its check for the end of the transaction.
        cursor.execute("INSERT INTO app.docs (id, v, parent) VALUES (51, '[1,2,3]', 1)")
        cursor.execute("SELECT count(*) FROM pg_indexes WHERE tablename = 'docs'")
        assert cursor.fetchone() == (2,), "the primary key and the unique code alone"
        rebuild_indexes(cursor, indexes, note)

    assert pg_dump(any_database, "--schema-only") == before
    assert built == ["docs %s {0}", "docs_sparse", "docs_v", "docs_v_ivf", "docs_words"]


def test_what_refuses_rows_is_needed_or_not_in_its_definition_stays(database: Database) -> None:
    database.run(DOCS)
    database.run("""
        CREATE INDEX plain ON app.docs (flags);
        CREATE UNIQUE INDEX unique_words ON app.docs (words);
        CREATE INDEX clustered ON app.docs (words);
        ALTER TABLE app.docs CLUSTER ON clustered;
        CREATE INDEX of_an_extension ON app.docs (words);
        ALTER INDEX app.of_an_extension DEPENDS ON EXTENSION vector;
        CREATE INDEX commented ON app.docs (words);
        COMMENT ON INDEX app.commented IS 'kept';
        CREATE INDEX with_target ON app.docs ((flags % 7));
        ALTER INDEX app.with_target ALTER COLUMN 1 SET STATISTICS 300;
        CREATE INDEX invalid ON app.docs (flags, words);
        UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'app.invalid'::regclass;
        ALTER TABLE app.docs ADD EXCLUDE USING btree (flags WITH =);
    """)

    assert rebuildable(database, "app.docs") == ["plain"]


def test_indexes_of_partitioned_tables_and_partitions_stay(database: Database) -> None:
    database.run("""
        CREATE TABLE parts (id int, v vector(3)) PARTITION BY RANGE (id);
        CREATE TABLE part PARTITION OF parts FOR VALUES FROM (1) TO (10);
        CREATE INDEX ON parts USING hnsw (v vector_l2_ops);
        CREATE INDEX own ON part (id);
    """)

    assert rebuildable(database, "parts") == []
    assert rebuildable(database, "part") == []


def test_a_role_is_offered_only_what_it_may_drop_and_make_again(database: Database) -> None:
    database.run(DOCS + "CREATE INDEX plain ON app.docs (flags);")
    stranger, owner = f"stranger_{database.name}", f"owner_{database.name}"
    url = database.create_role(stranger)
    database.create_role(owner)
    database.run(f"GRANT USAGE ON SCHEMA app TO {stranger}; ALTER TABLE app.docs OWNER TO {owner}")
    assert rebuildable(database, "app.docs", url) == []

    database.run(f"GRANT {owner} TO {stranger}")
    assert rebuildable(database, "app.docs", url) == [], "it may drop, but not create"

    database.run(f"GRANT CREATE ON SCHEMA app TO {stranger}")
    assert rebuildable(database, "app.docs", url) == ["plain"]
    with transaction(database, url) as cursor:
        indexes = rebuildable_indexes(cursor, oid_of(database, "app.docs"))
        drop_indexes(cursor, indexes)
        rebuild_indexes(cursor, indexes, lambda *_: None)
    owned_by = "SELECT relowner::regrole::text FROM pg_class WHERE relname = 'plain'"
    assert database.ask_one(owned_by) == owner
