"""Restores into existing tables: what is restored, and what is refused."""

from typing import Any

import pytest

from vector_backup_pipeline.engine.results import TruncatedTable
from vector_backup_pipeline_tests.faults.watching import COLLECTIONS, EMBEDDINGS, count
from vector_backup_pipeline_tests.fix_backup import BackupMaker
from vector_backup_pipeline_tests.fix_postgres import LANGCHAIN_TABLES, Database
from vector_backup_pipeline_tests.fix_restore import (
    TRUNCATING,
    RestoreMaker,
    Saved,
    everything_in,
    kept_from_locking,
    rows_of,
)

_EMPTY = "TRUNCATE langchain_pg_collection, langchain_pg_embedding"
_OTHER_ROWS = """
    WITH one AS (INSERT INTO langchain_pg_collection (name) VALUES ('other') RETURNING uuid)
    INSERT INTO langchain_pg_embedding (id, collection_id, embedding, document)
        SELECT 'other-' || i, uuid, ARRAY[i, 0, 1]::vector, 'other'
          FROM one, generate_series(1, 9) i
"""
# The tests of the index rebuild have every other kind.
_INDEX = """
    CREATE INDEX "By Closeness" ON langchain_pg_embedding
        USING hnsw (embedding vector_cosine_ops) WITH (m = 8, ef_construction = 32);
"""
_CIRCLE = """
    CREATE TABLE one (id int PRIMARY KEY, other int);
    CREATE TABLE two (id int PRIMARY KEY, other int REFERENCES one);
    ALTER TABLE one ADD CONSTRAINT to_two FOREIGN KEY (other) REFERENCES two
        DEFERRABLE INITIALLY DEFERRED;
    BEGIN;
    INSERT INTO one VALUES (1, 2), (3, NULL);
    INSERT INTO two VALUES (2, 1);
    COMMIT;
"""
_PARTITIONED = """
    CREATE TABLE parts (id int, region text, v vector(2), PRIMARY KEY (id, region))
        PARTITION BY LIST (region);
    CREATE TABLE parts_eu PARTITION OF parts FOR VALUES IN ('eu') PARTITION BY HASH (id);
    CREATE TABLE parts_eu_0 PARTITION OF parts_eu FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE parts_eu_1 PARTITION OF parts_eu FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    CREATE TABLE parts_rest PARTITION OF parts DEFAULT;
    CREATE INDEX parts_v ON parts USING hnsw (v vector_l2_ops);
    INSERT INTO parts SELECT i, (ARRAY['eu', 'us'])[i % 2 + 1], ARRAY[i, 1]::vector
        FROM generate_series(1, 40) i;
"""
_NUMBERED = """
    CREATE TABLE numbered (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text UNIQUE);
    INSERT INTO numbered (note) SELECT 'n' || i FROM generate_series(1, 5) i;
    DELETE FROM numbered WHERE id = 2;
"""


@pytest.fixture
def docs(database: Database, backup: BackupMaker) -> Database:
    """A small table with a backup."""
    database.run("CREATE TABLE docs (id int PRIMARY KEY, note text)")
    database.run("INSERT INTO docs VALUES (1, 'one'), (2, NULL), (3, '')")
    assert backup(database.url, tables=("docs",)).error is None
    return database


def test_result_and_log_report_the_restored_rows(
    any_database: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    any_database.run(LANGCHAIN_TABLES + _INDEX)
    before = everything_in(any_database)
    made = backup(any_database.url, tables=(EMBEDDINGS, COLLECTIONS))
    any_database.run(_EMPTY)

    done = restore.succeeds(any_database)

    assert everything_in(any_database) == before
    info = done.result.backup_info
    assert info is not None
    assert (info.backup_path, info.timestamp) == (str(made.directory), made.stamp)
    assert done.restored(COLLECTIONS).rows_restored == 4
    assert done.restored(EMBEDDINGS).rows_restored == 58
    assert done.restored(EMBEDDINGS).source_file == made.file(EMBEDDINGS).name
    assert done.restored(EMBEDDINGS).digest_matches is True
    assert (done.result.truncate_results, done.result.truncate_performed) == ({}, False)
    log = (made.directory / "vector_backup_log.txt").read_text()
    assert f"restore {made.stamp}: SUCCESS" in log
    assert f"✓ {EMBEDDINGS}: 58 rows <- {made.file(EMBEDDINGS).name}" in log
    assert f"Target: database {any_database.name}, PostgreSQL " in log


def test_truncating_first_leaves_the_backups_rows_and_no_others(
    langchain: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    langchain.run(_INDEX)
    before = everything_in(langchain)
    backup(langchain.url)
    langchain.run(_OTHER_ROWS)
    langchain.run("UPDATE langchain_pg_embedding SET document = 'changed' WHERE id = 'doc-1'")

    done = restore.succeeds(langchain, **TRUNCATING)

    assert everything_in(langchain) == before
    assert done.result.truncate_performed
    truncated = done.result.truncate_results[EMBEDDINGS]
    assert isinstance(truncated, TruncatedTable)
    assert (truncated.rows_before, truncated.rows_after) == (67, 0)
    assert done.restored(EMBEDDINGS).digest_matches is True


def test_an_existing_row_fails_the_whole_restore(corpus: Database, restore: RestoreMaker) -> None:
    corpus.run("DELETE FROM langchain_pg_embedding WHERE id <> 'doc-7'")

    restore.fails(
        corpus,
        "DATABASE_ERROR",
        "duplicate key",
        "langchain_pg_collection_pkey",
        "Set on_conflict to skip or replace",
    )
    done = restore.fails(corpus, "DATABASE_ERROR", "(id)=(doc-7)", tables=(EMBEDDINGS,))

    assert done.error is not None
    assert not done.error.can_retry, "the same again would fail the same"


@pytest.mark.parametrize(
    ("made", "tables", "lost"),
    [
        pytest.param(
            _CIRCLE, ("one", "two"), "TRUNCATE one, two", id="a circle of deferred foreign keys"
        ),
        pytest.param(
            _CIRCLE + "ALTER TABLE one ALTER CONSTRAINT to_two DEFERRABLE INITIALLY IMMEDIATE",
            ("one", "two"),
            "TRUNCATE one, two",
            id="a circle that may be deferred",
        ),
        pytest.param(
            "CREATE TABLE tree (id int PRIMARY KEY, parent int REFERENCES tree);"
            "INSERT INTO tree VALUES (1, NULL), (2, 3), (3, 1), (4, 4)",
            ("tree",),
            "TRUNCATE tree",
            id="a table that references itself",
        ),
        pytest.param(_PARTITIONED, ("parts",), "TRUNCATE parts", id="a partitioned table"),
        pytest.param(
            _PARTITIONED, ("parts_eu_1",), "TRUNCATE parts_eu_1", id="a partition of its own"
        ),
        pytest.param(
            "CREATE TABLE base (id int PRIMARY KEY); CREATE TABLE child (x text) INHERITS (base);"
            "INSERT INTO base VALUES (1), (2); INSERT INTO child VALUES (1, 'x')",
            ("base",),
            "TRUNCATE ONLY base",
            id="a parent without the rows of its inheritance child",
        ),
        pytest.param("CREATE TABLE docs (id int PRIMARY KEY)", ("docs",), "", id="no rows"),
        pytest.param(
            "CREATE TABLE bare (); INSERT INTO bare SELECT FROM generate_series(1, 3)",
            ("bare",),
            "TRUNCATE bare",
            id="no columns",
        ),
        pytest.param(
            "CREATE TABLE bare (n int GENERATED ALWAYS AS (1 + 1) STORED);"
            "INSERT INTO bare SELECT FROM generate_series(1, 3)",
            ("bare",),
            "TRUNCATE bare",
            id="generated columns only",
        ),
    ],
)
def test_tables_of_every_shape_come_back(
    saved: Saved, restore: RestoreMaker, made: str, tables: tuple[str, ...], lost: str
) -> None:
    database = saved(made, *tables)
    before = everything_in(database)

    restore.succeeds(database, **TRUNCATING)
    assert everything_in(database) == before
    if lost:
        database.run(lost)
    done = restore.succeeds(database)

    assert everything_in(database) == before
    assert all(done.restored(table).digest_matches for table in tables)


def test_a_graph_that_does_not_fit_into_memory_becomes_a_notice(
    langchain: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    langchain.run(
        "INSERT INTO langchain_pg_embedding (id, embedding)"
        " SELECT 'n' || i, ARRAY[i, 1, 1]::vector FROM generate_series(1, 3000) i;"
        "CREATE INDEX near ON langchain_pg_embedding USING hnsw (embedding vector_l2_ops)"
    )
    backup(langchain.url)

    done = restore.succeeds(langchain, maintenance_work_mem="1MB", **TRUNCATING)

    (notice,) = done.result.notices
    assert notice.startswith("Index near (hnsw) of langchain_pg_embedding: hnsw graph no longer")
    assert "Increase maintenance_work_mem" in notice
    assert (
        restore.succeeds(langchain, maintenance_work_mem="64MB", **TRUNCATING).result.notices == []
    )


def test_a_table_can_be_restored_into_another_existing_one(
    corpus: Database, restore: RestoreMaker
) -> None:
    corpus.run(
        'CREATE SCHEMA "Old One";'
        'CREATE TABLE "Old One"."Embed.dings" (LIKE langchain_pg_embedding INCLUDING ALL)'
    )
    before = everything_in(corpus)
    rename = {EMBEDDINGS: '"Old One"."Embed.dings"'}

    done = restore.succeeds(corpus, tables=(EMBEDDINGS,), rename=rename)

    assert done.restored(EMBEDDINGS).digest_matches is True
    assert count(corpus, '"Old One"."Embed.dings"') == 58
    corpus.run('TRUNCATE "Old One"."Embed.dings"')
    assert everything_in(corpus) == before, "nothing else was touched"


def test_a_table_without_a_unique_key_is_not_doubled(saved: Saved, restore: RestoreMaker) -> None:
    database = saved(
        "CREATE TABLE heap (id int, note text);"
        "INSERT INTO heap VALUES (1, 'one'), (1, 'one'), (2, NULL)",
        "heap",
    )
    before = everything_in(database)

    restore.fails(database, "INVALID_PARAMS", "public.heap holds 3 rows", "duplicate its rows")
    for on_conflict in ("skip", "replace"):
        words = ("has no unique key", f"{on_conflict!r}")
        restore.fails(database, "INVALID_PARAMS", *words, on_conflict=on_conflict)
    restore.succeeds(database, **TRUNCATING)
    assert everything_in(database) == before
    database.run("DELETE FROM heap")
    restore.succeeds(database)
    assert everything_in(database) == before


@pytest.mark.parametrize(
    "key",
    [
        "CREATE UNIQUE INDEX ON heap (id)",
        "ALTER TABLE heap ADD UNIQUE (id) DEFERRABLE; ALTER TABLE heap ALTER id SET NOT NULL",
        "ALTER TABLE heap ALTER id SET NOT NULL; CREATE UNIQUE INDEX ON heap (id) WHERE id > 0",
        "ALTER TABLE heap ALTER id SET NOT NULL; CREATE UNIQUE INDEX ON heap ((id + 1))",
        "ALTER TABLE heap ADD other int GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
        "CREATE TABLE parts (LIKE heap) PARTITION BY LIST (id); DROP TABLE heap;"
        "ALTER TABLE parts RENAME TO heap; ALTER TABLE heap ALTER id SET NOT NULL;"
        "CREATE TABLE part PARTITION OF heap DEFAULT; INSERT INTO heap VALUES (1, 'one');"
        "CREATE UNIQUE INDEX ON ONLY heap (id)",
    ],
    ids=["takes NULL", "deferrable", "partial", "of an expression", "not in the backup", "invalid"],
)
def test_a_key_that_could_let_rows_be_doubled_is_none(
    saved: Saved, restore: RestoreMaker, key: str
) -> None:
    database = saved(
        "CREATE TABLE heap (id int, note text);INSERT INTO heap VALUES (1, 'one'), (2, NULL)",
        "heap",
    )
    database.run(key)

    restore.fails(database, "INVALID_PARAMS", "has no unique key over the backup's columns")


def test_a_referenced_table_is_not_truncated_alone(saved: Saved, restore: RestoreMaker) -> None:
    database = saved(
        "CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY HASH (id);"
        "CREATE TABLE part PARTITION OF parts FOR VALUES WITH (MODULUS 1, REMAINDER 0);"
        "CREATE TABLE refers (id int REFERENCES parts)",
        "parts",
        "part",
        "refers",
    )

    for table in ("part", "parts"):
        words = ("cannot truncate", '"refers" references', "Restore both tables")
        restore.fails(database, "INVALID_PARAMS", *words, tables=(table,), **TRUNCATING)
    restore.succeeds(database, tables=("parts", "refers"), **TRUNCATING)


def test_a_violated_deferred_key_fails_before_the_commit(
    saved: Saved, restore: RestoreMaker
) -> None:
    database = saved(_CIRCLE, "one", "two")
    database.run("TRUNCATE one, two")

    restore.fails(database, "DATABASE_ERROR", "to_two", tables=("one",))


@pytest.mark.parametrize(
    ("event", "fired_by"),
    [
        ("INSERT", {}),
        ("UPDATE OF document", {"on_conflict": "replace"}),
        ("TRUNCATE", {"truncate_before_restore": True}),
    ],
)
def test_a_trigger_that_would_fire_is_refused_fired_or_disabled(
    langchain: Database,
    backup: BackupMaker,
    restore: RestoreMaker,
    event: str,
    fired_by: dict[str, Any],
) -> None:
    langchain.run(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql"
        " AS $$ BEGIN RAISE 'fired'; END $$;"
        f"CREATE TRIGGER guard BEFORE {event} ON langchain_pg_embedding"
        " FOR EACH STATEMENT EXECUTE FUNCTION refuse()"
    )
    before = everything_in(langchain)
    backup(langchain.url)
    if event == "INSERT":
        langchain.run(_EMPTY)

    restore.fails(langchain, "INVALID_PARAMS", "(guard)", "disable_triggers", **fired_by)
    restore.fails(langchain, "DATABASE_ERROR", "fired", fire_triggers=True, **fired_by)
    restore.succeeds(langchain, disable_triggers=True, **fired_by)

    assert everything_in(langchain) == before


def test_disabled_triggers_are_afterwards_as_they_were(
    database: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    database.run(
        """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql
               AS $$ BEGIN RAISE 'fired'; END $$;
           CREATE TABLE parent (id int PRIMARY KEY);
           CREATE TABLE p (id int PRIMARY KEY REFERENCES parent DEFERRABLE INITIALLY DEFERRED)
               PARTITION BY HASH (id);
           CREATE TABLE p0 PARTITION OF p FOR VALUES WITH (MODULUS 2, REMAINDER 0);
           CREATE TABLE p1 PARTITION OF p FOR VALUES WITH (MODULUS 2, REMAINDER 1);
           INSERT INTO parent SELECT generate_series(1, 9);
           INSERT INTO p SELECT generate_series(1, 9)"""
    )
    database.run(
        """CREATE TRIGGER a BEFORE INSERT ON p FOR EACH ROW EXECUTE FUNCTION refuse();
           CREATE TRIGGER b AFTER INSERT ON p EXECUTE FUNCTION refuse();
           CREATE TRIGGER c BEFORE INSERT ON p0 FOR EACH ROW EXECUTE FUNCTION refuse();
           CREATE TRIGGER d BEFORE INSERT ON p1 FOR EACH ROW EXECUTE FUNCTION refuse();
           CREATE CONSTRAINT TRIGGER e AFTER INSERT ON p DEFERRABLE INITIALLY DEFERRED
               FOR EACH ROW EXECUTE FUNCTION refuse();
           ALTER TABLE p1 DISABLE TRIGGER a; ALTER TABLE p1 DISABLE TRIGGER d;
           ALTER TABLE p ENABLE ALWAYS TRIGGER b; ALTER TABLE p0 ENABLE ALWAYS TRIGGER c"""
    )
    url = database.create_role("loads_only")
    database.run("GRANT ALL ON parent, p, p0, p1 TO loads_only")
    before = everything_in(database)
    backup(database.url, tables=("parent", "p"))
    database.run("TRUNCATE parent, p")

    restore.fails(database, "INVALID_PARAMS", "public.p has triggers (a, b, e, c)")
    restore.fails(database, "PERMISSION_DENIED", "owner", url=url, disable_triggers=True)
    restore.succeeds(database, disable_triggers=True)

    assert everything_in(database) == before


def test_a_trigger_that_no_restored_row_fires_does_not_matter(
    docs: Database, restore: RestoreMaker
) -> None:
    before = rows_of(docs)
    docs.run(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql"
        " AS $$ BEGIN RAISE 'fired'; END $$; TRUNCATE docs;"
        "CREATE TRIGGER loud BEFORE INSERT ON docs EXECUTE FUNCTION refuse();"
        "CREATE TRIGGER replica_only BEFORE INSERT ON docs EXECUTE FUNCTION refuse();"
        "ALTER TABLE docs DISABLE TRIGGER loud, ENABLE REPLICA TRIGGER replica_only;"
        "CREATE TRIGGER of_another_event BEFORE DELETE ON docs EXECUTE FUNCTION refuse()"
    )

    for on_conflict in ("fail", "skip", "replace"):
        restore.succeeds(docs, on_conflict=on_conflict)
        assert rows_of(docs) == before


_CHANGED = ("content digest", "A trigger", "rolled back")
_DELETED = "DELETE FROM public.docs WHERE id = 1; RETURN NULL;"


@pytest.mark.parametrize(
    ("on_conflict", "trigger", "statement", "words"),
    [
        (
            "fail",
            "TRIGGER t BEFORE INSERT ON docs FOR EACH ROW",
            "NEW.note := 'changed'; RETURN NEW;",
            _CHANGED,
        ),
        (
            "fail",
            "CONSTRAINT TRIGGER t AFTER INSERT ON docs DEFERRABLE INITIALLY DEFERRED FOR EACH ROW",
            "UPDATE public.docs SET note = 'x' WHERE id = NEW.id; RETURN NULL;",
            _CHANGED,
        ),
        ("fail", "TRIGGER t AFTER INSERT ON docs", _DELETED, ("rolled back",)),
        ("skip", "TRIGGER t AFTER INSERT ON docs", _DELETED, ("rolled back",)),
        ("replace", "TRIGGER t AFTER INSERT ON docs", _DELETED, ("rolled back",)),
    ],
)
def test_a_trigger_that_changes_or_deletes_rows_is_detected(
    docs: Database,
    restore: RestoreMaker,
    on_conflict: str,
    trigger: str,
    statement: str,
    words: tuple[str, ...],
) -> None:
    docs.run(
        "CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql"
        f" AS $$ BEGIN {statement} END $$;"
        f"CREATE {trigger} EXECUTE FUNCTION change()"
    )
    if on_conflict == "fail":
        docs.run("TRUNCATE docs")

    restore.fails(docs, "INTEGRITY_ERROR", *words, on_conflict=on_conflict, fire_triggers=True)


_BY_SEARCH_PATH = """
    CREATE FUNCTION unit(v vector) RETURNS vector LANGUAGE plpgsql IMMUTABLE
        AS 'BEGIN RETURN l2_normalize(v); END';
    CREATE FUNCTION is_unit(v vector) RETURNS bool LANGUAGE plpgsql IMMUTABLE
        AS 'BEGIN RETURN unit(v) = v; END';
    CREATE TABLE seen (id int);
    CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql
        AS 'BEGIN INSERT INTO seen VALUES (1); RETURN NULL; END';
    CREATE TABLE docs (id int PRIMARY KEY, embedding vector(2) CHECK (unit(embedding) IS NOT NULL),
        u vector(2) GENERATED ALWAYS AS (unit(embedding)) STORED);
    CREATE INDEX by_unit ON docs (is_unit(embedding));
    CREATE CONSTRAINT TRIGGER late AFTER INSERT ON docs DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION see();
    CREATE TRIGGER emptied AFTER TRUNCATE ON docs EXECUTE FUNCTION see();
    INSERT INTO docs SELECT i, ARRAY[i, 1]::vector FROM generate_series(1, 20) i;
"""


def test_rows_are_loaded_under_the_roles_search_path(saved: Saved, restore: RestoreMaker) -> None:
    database = saved(_BY_SEARCH_PATH, "docs")
    before = everything_in(database).replace("\n1", "")
    options: tuple[dict[str, Any], ...] = ({}, TRUNCATING, {"on_conflict": "replace"})
    for parameters in options:
        database.run("DELETE FROM docs WHERE id > 5" if parameters else "TRUNCATE docs")

        restore.succeeds(database, fire_triggers=True, **parameters)

        assert everything_in(database).replace("\n1", "") == before


def test_a_renamed_copy_is_loaded_under_the_roles_search_path(
    any_database: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    any_database.run(_BY_SEARCH_PATH)
    if any_database.server.version >= 17:  # CREATE INDEX has a search path of its own there.
        any_database.run("DROP INDEX by_unit")
    backup(any_database.url, tables=("docs",))

    restore.succeeds(any_database, rename={"docs": "copied"})

    assert any_database.ask_one("SELECT count(*) FROM copied JOIN docs USING (id, u)") == 20


def test_only_tables_are_restored_into(docs: Database, restore: RestoreMaker) -> None:
    docs.run(
        "CREATE VIEW a_view AS SELECT * FROM docs;"
        "CREATE FOREIGN DATA WRAPPER none; CREATE SERVER nowhere FOREIGN DATA WRAPPER none;"
        "CREATE FOREIGN TABLE far (id int, note text) SERVER nowhere;"
        "CREATE SEQUENCE numbers; CREATE TYPE pair AS (id int, note text)"
    )
    # pg_dump can't read a foreign table whose wrapper does nothing, hence no dump here.
    for target in ("a_view", "far", "numbers", "pair"):
        done = restore(docs.url, rename={"docs": target})

        words = (f"public.{target} exists", "is not a table", "rename")
        restore.check_failure(done, "INVALID_PARAMS", *words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("ALTER TABLE docs RENAME note TO remark", "public.docs lacks note of the backup"),
        (
            "ALTER TABLE docs DROP note;"
            "ALTER TABLE docs ADD note text GENERATED ALWAYS AS ('x') STORED",
            "The column note is generated either in the backup or in public.docs",
        ),
        (
            "ALTER TABLE docs DROP twice, ADD twice int",
            "The column twice is generated either in the backup or in public.docs",
        ),
        (
            "ALTER TABLE docs DROP v, ADD v vector(5)",
            "The column v of public.docs has type vector(5), but public.vector(3) in the backup",
        ),
    ],
)
def test_another_table_is_refused_before_a_lock(
    saved: Saved, restore: RestoreMaker, change: str, words: str
) -> None:
    database = saved(
        "CREATE TABLE docs (id int PRIMARY KEY, note text, v vector(3),"
        " twice int GENERATED ALWAYS AS (id * 2) STORED)",
        "docs",
    )
    database.run(change)

    with kept_from_locking(database, "docs"):
        restore.fails(database, "INVALID_PARAMS", words, "rename")


def test_a_further_column_takes_its_default(docs: Database, restore: RestoreMaker) -> None:
    docs.run(
        "ALTER TABLE docs ADD nothing text, ADD seven int NOT NULL DEFAULT 7,"
        " ADD twice int GENERATED ALWAYS AS (id * 2) STORED,"
        " ADD number int GENERATED ALWAYS AS IDENTITY"
    )

    done = restore.succeeds(docs, **TRUNCATING)

    assert done.restored("docs").digest_matches is True
    rows = docs.ask("SELECT id, note, nothing, seven, twice FROM docs ORDER BY id")
    assert rows == [(1, "one", None, 7, 2), (2, None, None, 7, 4), (3, "", None, 7, 6)]


def test_the_order_of_columns_does_not_matter(docs: Database, restore: RestoreMaker) -> None:
    rows = docs.ask("SELECT id, note FROM docs ORDER BY id")
    docs.run("DROP TABLE docs; CREATE TABLE docs (note text, gone int, id int PRIMARY KEY)")
    docs.run("ALTER TABLE docs DROP gone")

    done = restore.succeeds(docs)

    assert docs.ask("SELECT id, note FROM docs ORDER BY id") == rows
    assert done.restored("docs").digest_matches is True


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("ALTER note TYPE varchar(2)", "value too long"),
        ("ADD CHECK (id < 3)", "violates check constraint"),
        ("ALTER note SET NOT NULL", "violates not-null constraint"),
        ("ADD owner text NOT NULL", 'null value in column "owner"'),
        ("ALTER id TYPE boolean USING true", "invalid input syntax"),
        ("ALTER note TYPE vector(3) USING NULL", "invalid input syntax for type vector"),
    ],
)
def test_a_row_that_does_not_fit_fails_and_is_named(
    docs: Database, restore: RestoreMaker, change: str, words: str
) -> None:
    docs.run(f"TRUNCATE docs; ALTER TABLE docs {change}")

    done = restore.fails(docs, "DATABASE_ERROR", words, "COPY docs, line ")

    assert done.error is not None
    assert not done.error.can_retry


def test_an_always_generated_identity_takes_the_backups_values(
    saved: Saved, restore: RestoreMaker
) -> None:
    database = saved(_NUMBERED, "numbered")
    before = everything_in(database)
    for on_conflict, lost in (("fail", 0), ("skip", 2), ("replace", 2)):
        database.run("DELETE FROM numbered WHERE id > %s", [lost])

        restore.succeeds(database, on_conflict=on_conflict)

        assert everything_in(database) == before


@pytest.mark.parametrize(
    ("made", "table", "changed", "next_value"),
    [
        (_NUMBERED, "numbered", "TRUNCATE numbered RESTART IDENTITY", 6),
        (_NUMBERED, "numbered", "TRUNCATE numbered; SELECT setval('numbered_id_seq', 40)", 41),
        (
            "CREATE TABLE serial (id bigserial PRIMARY KEY);"
            "INSERT INTO serial SELECT FROM generate_series(1, 3)",
            "serial",
            "TRUNCATE serial RESTART IDENTITY",
            4,
        ),
        (
            "CREATE TABLE down"
            " (id int PRIMARY KEY GENERATED BY DEFAULT AS IDENTITY (INCREMENT -1));"
            "INSERT INTO down SELECT FROM generate_series(1, 3)",
            "down",
            "TRUNCATE down RESTART IDENTITY",
            -4,
        ),
        (
            "CREATE SEQUENCE numbers; CREATE TABLE drawn (id int PRIMARY KEY DEFAULT"
            " nextval('numbers')); INSERT INTO drawn SELECT FROM generate_series(1, 5)",
            "drawn",
            "TRUNCATE drawn; SELECT setval('numbers', 1)",
            6,
        ),
    ],
    ids=["identity", "never back", "serial", "descending", "shared"],
)
def test_a_sequence_moves_forward_to_the_backups_value(
    saved: Saved, restore: RestoreMaker, made: str, table: str, changed: str, next_value: int
) -> None:
    database = saved(made, table)
    database.run(changed)

    restore.succeeds(database)

    database.run(f"INSERT INTO {table} DEFAULT VALUES")
    assert database.ask_one(f"SELECT count(*) FROM {table} WHERE id = {next_value}") == 1  # noqa: S608


def test_a_sequence_that_the_backup_could_not_read_is_set_from_the_rows(
    database: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    database.run(
        "CREATE SEQUENCE names; CREATE TABLE numbered (id serial PRIMARY KEY,"
        " down int GENERATED BY DEFAULT AS IDENTITY (INCREMENT -1),"
        " none int GENERATED BY DEFAULT AS IDENTITY, name text DEFAULT 'n' || nextval('names'));"
        "INSERT INTO numbered (none) SELECT 0 FROM generate_series(1, 3)"
    )
    url = database.create_role("restores_no_sequence")
    database.run("GRANT SELECT ON numbered TO restores_no_sequence")
    backup(url, tables=("numbered",))
    database.run("TRUNCATE numbered RESTART IDENTITY")

    restore.succeeds(database)
    restore.succeeds(database, rename={"numbered": "copied"})

    for table in ("numbered", "copied"):
        database.run(f"INSERT INTO {table} DEFAULT VALUES")
        rows = database.ask(f"SELECT max(id), min(down), max(none) FROM {table}")  # noqa: S608
        assert rows == [(4, -4, 1)]


def test_a_sequence_that_the_role_may_not_set_becomes_a_notice(
    saved: Saved, restore: RestoreMaker
) -> None:
    database = saved(
        "CREATE TABLE serial (id serial PRIMARY KEY);"
        "INSERT INTO serial SELECT FROM generate_series(1, 3)",
        "serial",
    )
    database.run("TRUNCATE serial RESTART IDENTITY")
    url = database.create_role("may_load")
    database.run("GRANT SELECT, INSERT, UPDATE, DELETE ON serial TO may_load")

    done = restore(url)

    assert done.error is None
    assert count(database, "serial") == 3
    assert any("public.serial_id_seq was not changed" in notice for notice in done.result.notices)


def test_a_partition_that_comes_with_its_root_is_not_loaded_twice(
    saved: Saved, restore: RestoreMaker
) -> None:
    database = saved(_PARTITIONED, "parts_eu_1", "parts", "parts_eu")
    before = everything_in(database)
    database.run("TRUNCATE parts")

    done = restore.succeeds(database)

    assert everything_in(database) == before
    assert list(done.result.restore_results) == ["parts"]
    assert done.result.notices == [
        f"{name} is a partition; its rows come with the partitioned table."
        for name in ("parts_eu_1", "parts_eu")
    ]


def test_row_security_that_applies_to_the_role_is_refused(
    corpus: Database, restore: RestoreMaker
) -> None:
    url = corpus.create_role("guarded_loader")
    corpus.run(
        "GRANT ALL ON ALL TABLES IN SCHEMA public TO guarded_loader;"
        "ALTER TABLE langchain_pg_embedding ENABLE ROW LEVEL SECURITY;"
        "CREATE POLICY few ON langchain_pg_embedding USING (id < 'doc-3')"
    )
    words = ("Row-level security of public.langchain_pg_embedding", "BYPASSRLS")

    restore.fails(corpus, "PERMISSION_DENIED", *words, url=url)
    restore.succeeds(corpus, **TRUNCATING)  # As a superuser.


def test_a_role_without_a_privilege_changes_nothing(docs: Database, restore: RestoreMaker) -> None:
    url = docs.create_role("lacks_a_privilege")
    lacking: list[tuple[str, dict[str, Any]]] = [
        ("SELECT", {}),
        ("INSERT", {}),
        ("SELECT, INSERT", TRUNCATING),
        ("SELECT, INSERT", {"on_conflict": "replace"}),
    ]
    for grants, parameters in lacking:
        docs.run(
            f"REVOKE ALL ON docs FROM lacks_a_privilege;GRANT {grants} ON docs TO lacks_a_privilege"
        )

        restore.fails(docs, "PERMISSION_DENIED", "docs", "Grant", url=url, **parameters)
