"""Rows into tables that are there already: what comes back, and what is refused before a lock."""

from __future__ import annotations

from typing import Any

import pytest

from vector_backup_pipeline.engine.results import TruncatedTable
from vector_backup_pipeline_tests.faults.watching import COLLECTIONS, EMBEDDINGS, count
from vector_backup_pipeline_tests.fix_backup import BackupMaker
from vector_backup_pipeline_tests.fix_postgres import LANGCHAIN_TABLES, Database
from vector_backup_pipeline_tests.fix_restore import (
    TRUNCATING,
    RestoreMaker,
    everything_in,
    kept_from_locking,
    rows_of,
)

_INDEXED = """
    CREATE INDEX by_closeness ON langchain_pg_embedding
        USING hnsw (embedding vector_cosine_ops) WITH (m = 8, ef_construction = 32);
    CREATE INDEX by_lists ON langchain_pg_embedding
        USING ivfflat ((embedding::vector(3)) vector_l2_ops) WITH (lists = 2);
    CREATE INDEX by_metadata ON langchain_pg_embedding USING gin (cmetadata jsonb_path_ops);
    CREATE INDEX "By Length" ON langchain_pg_embedding (length(document) DESC NULLS LAST)
        INCLUDE (id) WHERE document IS NOT NULL;
    COMMENT ON INDEX by_metadata IS 'answers "which source"';
    CREATE INDEX in_order ON langchain_pg_embedding (collection_id, id) WITH (fillfactor = 70);
    ALTER TABLE langchain_pg_embedding CLUSTER ON in_order;
    ALTER INDEX "By Length" ALTER COLUMN 1 SET STATISTICS 500;
"""
_OTHER_ROWS = """
    WITH one AS (INSERT INTO langchain_pg_collection (name) VALUES ('other') RETURNING uuid)
    INSERT INTO langchain_pg_embedding (id, collection_id, embedding, document)
        SELECT 'other-' || i, uuid, ARRAY[i, 0, 1]::vector, 'other'
          FROM one, generate_series(1, 9) i
"""


def _emptied(database: Database) -> None:
    database.run("TRUNCATE langchain_pg_collection, langchain_pg_embedding")


def test_emptied_tables_get_every_row_back(
    any_database: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    any_database.run(LANGCHAIN_TABLES)
    before = everything_in(any_database)
    made = backup(any_database.url)
    _emptied(any_database)

    done = restore.succeeds(any_database)

    assert everything_in(any_database) == before
    info = done.result.backup_info
    assert info is not None
    assert (info.backup_path, info.timestamp) == (str(made.directory), made.stamp)
    assert list(done.result.restore_results) == [COLLECTIONS, EMBEDDINGS]
    assert done.restored(EMBEDDINGS).rows_restored == 58
    assert done.restored(EMBEDDINGS).source_file == made.file(EMBEDDINGS).name
    assert done.restored(EMBEDDINGS).digest_matches is True
    assert done.result.truncate_results == {}
    assert not done.result.truncate_performed


def test_the_log_of_the_directory_tells_of_the_restore(
    langchain: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    made = backup(langchain.url)
    _emptied(langchain)

    restore.succeeds(langchain)

    log = (made.directory / "vector_backup_log.txt").read_text()
    assert f"restore {made.stamp}: SUCCESS" in log
    assert f"✓ {EMBEDDINGS}: 58 rows <- {made.file(EMBEDDINGS).name}" in log
    assert f"Target: database {langchain.name}, PostgreSQL 18" in log


def test_truncating_first_leaves_the_backups_rows_and_no_others(
    database: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    database.run(LANGCHAIN_TABLES)
    before = everything_in(database)
    backup(database.url)
    database.run(_OTHER_ROWS)
    database.run("UPDATE langchain_pg_embedding SET document = 'changed' WHERE id = 'doc-1'")

    done = restore.succeeds(database, truncate_before_restore=True)

    assert everything_in(database) == before
    assert done.result.truncate_performed
    truncated = done.result.truncate_results[EMBEDDINGS]
    assert isinstance(truncated, TruncatedTable)
    assert (truncated.rows_before, truncated.rows_after) == (67, 0)
    assert done.restored(EMBEDDINGS).digest_matches is True


def test_rows_that_were_there_before_stay_and_the_difference_is_proven(
    langchain: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    backup(langchain.url)
    _emptied(langchain)
    langchain.run(_OTHER_ROWS)

    done = restore.succeeds(langchain)

    assert count(langchain) == 67
    assert count(langchain, COLLECTIONS) == 5
    assert done.restored(EMBEDDINGS).rows_restored == 58
    assert done.restored(EMBEDDINGS).digest_matches is True


def test_a_row_that_is_there_already_fails_the_whole_restore(
    langchain: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    backup(langchain.url)
    langchain.run("DELETE FROM langchain_pg_embedding WHERE id <> 'doc-7'")

    restore.fails(langchain, "DATABASE_ERROR", "duplicate key", "langchain_pg_collection_pkey")
    done = restore.fails(langchain, "DATABASE_ERROR", "(id)=(doc-7)", tables=(EMBEDDINGS,))

    assert done.error is not None
    assert not done.error.can_retry, "the same again would fail the same"


@pytest.mark.parametrize("is_truncated", [False, True])
def test_secondary_indexes_come_back_exactly(
    any_database: Database, backup: BackupMaker, restore: RestoreMaker, is_truncated: bool
) -> None:
    any_database.run(LANGCHAIN_TABLES)
    any_database.run(_INDEXED)
    before = everything_in(any_database)
    backup(any_database.url)
    if not is_truncated:
        _emptied(any_database)

    restore.succeeds(any_database, truncate_before_restore=is_truncated)

    assert everything_in(any_database) == before
    assert any_database.ask(
        "SELECT id FROM langchain_pg_embedding WHERE cmetadata @> '{\"i\": 3}'"
    ) == [("doc-3",)]


def test_an_index_of_few_rows_beside_many_is_kept_as_it_is(
    langchain: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    langchain.run(_INDEXED)
    backup(langchain.url)
    langchain.run("UPDATE langchain_pg_embedding SET id = 'other ' || id")
    langchain.run(
        "INSERT INTO langchain_pg_embedding (id) SELECT 'n ' || i FROM generate_series(1, 100) i"
    )
    nodes = "SELECT relfilenode FROM pg_class WHERE relname = 'by_closeness'"
    before = langchain.ask_one(nodes)

    restore.succeeds(langchain, tables=(EMBEDDINGS,))

    assert langchain.ask_one(nodes) == before
    assert count(langchain) == 216


@pytest.mark.parametrize("step", ["load", "prove"])
def test_indexes_that_were_dropped_for_the_load_come_back_when_it_fails(
    langchain: Database, backup: BackupMaker, restore: RestoreMaker, step: str
) -> None:
    langchain.run(_INDEXED)
    made = backup(langchain.url)

    def damage() -> None:
        made.path(EMBEDDINGS).write_bytes(b"")

    if step == "load":
        restore.between["load"] = damage
        words = ("holds 0 rows of the backup, not 58",)
    else:
        restore.between["prove"] = lambda: langchain.run(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE application_name = 'vector_backup_pipeline' AND datname = current_database()"
        )
        words = ("",)
    restore.fails(
        langchain,
        "INTEGRITY_ERROR" if step == "load" else "DATABASE_ERROR",
        *words,
        truncate_before_restore=True,
    )


def test_only_the_tables_that_are_named_are_restored(
    langchain: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    backup(langchain.url)
    langchain.run(
        "DELETE FROM langchain_pg_embedding; UPDATE langchain_pg_collection SET name = 'x' || name"
    )

    done = restore.succeeds(langchain, tables=("public.langchain_pg_embedding",))

    assert list(done.result.restore_results) == [EMBEDDINGS]
    assert count(langchain) == 58
    assert langchain.ask_one("SELECT count(*) FROM langchain_pg_collection WHERE name ~ '^x'") == 4


def test_a_table_can_be_restored_into_another_that_is_there(
    langchain: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    backup(langchain.url)
    langchain.run(
        'CREATE SCHEMA "Old One";'
        'CREATE TABLE "Old One"."Embed.dings" (LIKE langchain_pg_embedding INCLUDING ALL)'
    )
    before = everything_in(langchain)

    done = restore.succeeds(
        langchain,
        tables=(EMBEDDINGS,),
        rename={EMBEDDINGS: '"Old One"."Embed.dings"'},
    )

    assert done.restored(EMBEDDINGS).digest_matches is True
    assert (
        langchain.ask(
            'SELECT * FROM "Old One"."Embed.dings" EXCEPT SELECT * FROM langchain_pg_embedding'
        )
        == []
    )
    assert count(langchain, '"Old One"."Embed.dings"') == 58
    langchain.run('TRUNCATE "Old One"."Embed.dings"')
    assert everything_in(langchain) == before, "nothing else was touched"


def test_two_tables_cannot_go_into_one(
    langchain: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    backup(langchain.url)

    restore.fails(
        langchain,
        "INVALID_PARAMS",
        "would both go into public.langchain_pg_embedding",
        rename={COLLECTIONS: EMBEDDINGS},
    )


def test_a_table_without_a_unique_key_is_not_doubled(
    database: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    database.run("CREATE TABLE heap (id int, note text)")
    database.run("INSERT INTO heap VALUES (1, 'one'), (1, 'one'), (2, NULL)")
    before = everything_in(database)
    backup(database.url, tables=("heap",))

    restore.fails(database, "INVALID_PARAMS", "public.heap holds 3 rows", "double its rows")
    restore.succeeds(database, truncate_before_restore=True)
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
    ],
    ids=["takes NULL", "deferrable", "of some rows", "of an expression", "not in the backup"],
)
def test_a_key_that_could_let_rows_be_doubled_is_none(
    database: Database, backup: BackupMaker, restore: RestoreMaker, key: str
) -> None:
    database.run("CREATE TABLE heap (id int, note text)")
    database.run("INSERT INTO heap VALUES (1, 'one'), (2, NULL)")
    backup(database.url, tables=("heap",))
    database.run(key)

    restore.fails(database, "INVALID_PARAMS", "has no unique key over the backup's columns")


def test_a_table_that_another_refers_to_is_not_truncated_alone(
    langchain: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    backup(langchain.url)

    restore.fails(
        langchain,
        "INVALID_PARAMS",
        "public.langchain_pg_collection can't be truncated: public.langchain_pg_embedding",
        tables=(COLLECTIONS,),
        truncate_before_restore=True,
    )


def test_a_partition_of_a_table_that_another_refers_to_is_not_truncated_alone(
    database: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    database.run(
        "CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY HASH (id);"
        "CREATE TABLE part PARTITION OF parts FOR VALUES WITH (MODULUS 1, REMAINDER 0);"
        "CREATE TABLE refers (id int REFERENCES parts)"
    )
    backup(database.url, tables=("parts", "part", "refers"))

    for table in ("part", "parts"):
        refused = f"public.{table} can't be truncated: public.refers has"
        restore.fails(database, "INVALID_PARAMS", refused, tables=(table,), **TRUNCATING)
    restore.succeeds(database, tables=("parts", "refers"), **TRUNCATING)


def test_children_whose_parents_are_missing_fail_and_name_them(
    langchain: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    backup(langchain.url)
    _emptied(langchain)

    restore.fails(
        langchain,
        "DATABASE_ERROR",
        "langchain_pg_embedding_collection_id_fkey",
        "is not present in table",
        tables=(EMBEDDINGS,),
    )


def test_parents_come_before_their_children_whatever_the_backups_order(
    langchain: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    backup(langchain.url, tables=(EMBEDDINGS, COLLECTIONS))
    _emptied(langchain)

    done = restore.succeeds(langchain)

    assert done.restored(COLLECTIONS).rows_restored == 4


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


def test_tables_in_a_circle_of_deferrable_keys_come_back(
    database: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    database.run(_CIRCLE)
    before = everything_in(database)
    backup(database.url, tables=("one", "two"))

    restore.succeeds(database, truncate_before_restore=True)

    assert everything_in(database) == before


def test_a_circle_that_is_immediate_but_may_be_deferred_comes_back(
    database: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    database.run(_CIRCLE)
    database.run("ALTER TABLE one ALTER CONSTRAINT to_two DEFERRABLE INITIALLY IMMEDIATE")
    before = everything_in(database)
    backup(database.url, tables=("one", "two"))

    restore.succeeds(database, truncate_before_restore=True)

    assert everything_in(database) == before


def test_a_deferred_key_that_does_not_hold_fails_before_the_commit(
    database: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    database.run(_CIRCLE)
    backup(database.url, tables=("one", "two"))
    database.run("TRUNCATE one, two")

    restore.fails(database, "DATABASE_ERROR", "to_two", tables=("one",))


def test_a_table_that_refers_to_itself_comes_back(
    database: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    database.run(
        "CREATE TABLE tree (id int PRIMARY KEY, parent int REFERENCES tree);"
        "INSERT INTO tree VALUES (1, NULL), (2, 3), (3, 1), (4, 4)"
    )
    before = everything_in(database)
    backup(database.url, tables=("tree",))

    restore.succeeds(database, truncate_before_restore=True)

    assert everything_in(database) == before


_LOUD = """
    CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql
        AS $$ BEGIN NEW.document := upper(NEW.document); RETURN NEW; END $$;
    CREATE FUNCTION count_up() RETURNS trigger LANGUAGE plpgsql
        AS $$ BEGIN INSERT INTO public.seen VALUES (NEW.id); RETURN NULL; END $$;
    CREATE TABLE seen (id text);
"""


def test_a_trigger_that_would_fire_is_refused(
    langchain: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    langchain.run(_LOUD)
    langchain.run(
        "CREATE TRIGGER counted AFTER INSERT ON langchain_pg_embedding"
        " FOR EACH ROW EXECUTE FUNCTION count_up()"
    )
    backup(langchain.url)
    _emptied(langchain)

    restore.fails(
        langchain,
        "INVALID_PARAMS",
        "langchain_pg_embedding has triggers (counted)",
        "fire_triggers",
    )
    restore.succeeds(langchain, fire_triggers=True)
    assert count(langchain, "seen") == 58, "it has fired, as was asked for"


@pytest.mark.parametrize(
    ("event", "fired_by"),
    [
        ("UPDATE OF document", {"on_conflict": "replace"}),
        ("TRUNCATE", {"truncate_before_restore": True}),
        ("DELETE", None),
    ],
)
def test_a_trigger_that_no_restored_row_fires_is_not_in_the_way(
    langchain: Database,
    backup: BackupMaker,
    restore: RestoreMaker,
    event: str,
    fired_by: dict[str, Any] | None,
) -> None:
    langchain.run(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql"
        " AS $$ BEGIN RAISE 'fired'; END $$;"
        f"CREATE TRIGGER guard BEFORE {event} ON langchain_pg_embedding"
        " FOR EACH STATEMENT EXECUTE FUNCTION refuse()"
    )
    before = everything_in(langchain)
    backup(langchain.url)
    if fired_by is not None:
        restore.fails(langchain, "INVALID_PARAMS", "(guard)", "disable_triggers", **fired_by)
        restore.succeeds(langchain, disable_triggers=True, **fired_by)
    langchain.run("ALTER TABLE langchain_pg_embedding DISABLE TRIGGER ALL")
    _emptied(langchain)
    langchain.run("ALTER TABLE langchain_pg_embedding ENABLE TRIGGER ALL")

    restore.succeeds(langchain)

    assert everything_in(langchain) == before


def test_rows_are_loaded_without_triggers_which_are_then_as_they_were(
    any_database: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    any_database.run(
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
    any_database.run(
        """CREATE TRIGGER a BEFORE INSERT ON p FOR EACH ROW EXECUTE FUNCTION refuse();
           CREATE TRIGGER b AFTER INSERT ON p EXECUTE FUNCTION refuse();
           CREATE TRIGGER c BEFORE INSERT ON p0 FOR EACH ROW EXECUTE FUNCTION refuse();
           CREATE TRIGGER d BEFORE INSERT ON p1 FOR EACH ROW EXECUTE FUNCTION refuse();
           CREATE CONSTRAINT TRIGGER e AFTER INSERT ON p DEFERRABLE INITIALLY DEFERRED
               FOR EACH ROW EXECUTE FUNCTION refuse();
           ALTER TABLE p1 DISABLE TRIGGER a; ALTER TABLE p1 DISABLE TRIGGER d;
           ALTER TABLE p ENABLE ALWAYS TRIGGER b; ALTER TABLE p0 ENABLE ALWAYS TRIGGER c"""
    )
    url = any_database.create_role("loads_only")
    any_database.run("GRANT ALL ON parent, p, p0, p1 TO loads_only")
    before = everything_in(any_database)
    backup(any_database.url, tables=("parent", "p"))
    any_database.run("TRUNCATE parent, p")

    restore.fails(any_database, "INVALID_PARAMS", "public.p has triggers (a, b, e, c)")
    restore.fails(any_database, "PERMISSION_DENIED", "owner", url=url, disable_triggers=True)
    restore.succeeds(any_database, disable_triggers=True)

    assert everything_in(any_database) == before


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


@pytest.mark.parametrize(
    "options",
    [{}, {"truncate_before_restore": True}, {"on_conflict": "replace"}],
)
def test_a_table_takes_rows_by_the_search_path_that_it_was_made_for(
    database: Database, backup: BackupMaker, restore: RestoreMaker, options: dict[str, Any]
) -> None:
    database.run(_BY_SEARCH_PATH)
    before = everything_in(database).replace("\n1", "")
    backup(database.url, tables=("docs",))
    database.run("DELETE FROM docs WHERE id > 5" if options else "TRUNCATE docs")

    restore.succeeds(database, fire_triggers=True, **options)

    assert everything_in(database).replace("\n1", "") == before


def test_a_renamed_copy_takes_rows_by_the_roles_search_path(
    any_database: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    any_database.run(_BY_SEARCH_PATH)
    if any_database.server.version >= 17:  # CREATE INDEX has a search path of its own there.
        any_database.run("DROP INDEX by_unit")
    backup(any_database.url, tables=("docs",))

    restore.succeeds(any_database, rename={"docs": "copied"})

    assert any_database.ask_one("SELECT count(*) FROM copied JOIN docs USING (id, u)") == 20


@pytest.mark.parametrize("on_conflict", ["fail", "skip", "replace"])
def test_a_disabled_trigger_neither_fires_nor_is_in_the_way(
    langchain: Database, backup: BackupMaker, restore: RestoreMaker, on_conflict: str
) -> None:
    langchain.run(_LOUD)
    langchain.run(
        "CREATE TRIGGER loud BEFORE INSERT ON langchain_pg_embedding"
        " FOR EACH ROW EXECUTE FUNCTION shout();"
        "CREATE TRIGGER replica_only BEFORE INSERT ON langchain_pg_embedding"
        " FOR EACH ROW EXECUTE FUNCTION shout();"
        "ALTER TABLE langchain_pg_embedding DISABLE TRIGGER loud,"
        " ENABLE REPLICA TRIGGER replica_only"
    )
    before = everything_in(langchain)
    backup(langchain.url)
    _emptied(langchain)

    restore.succeeds(langchain, on_conflict=on_conflict)

    assert everything_in(langchain) == before


def test_a_trigger_that_changes_rows_is_found_out_by_the_digest(
    langchain: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    langchain.run(_LOUD)
    langchain.run(
        "CREATE TRIGGER loud BEFORE INSERT ON langchain_pg_embedding"
        " FOR EACH ROW EXECUTE FUNCTION shout()"
    )
    backup(langchain.url)
    _emptied(langchain)

    restore.fails(
        langchain,
        "INTEGRITY_ERROR",
        "content digest",
        "A trigger",
        "rolled back",
        fire_triggers=True,
    )


@pytest.mark.parametrize("on_conflict", ["fail", "skip", "replace"])
def test_a_trigger_that_swallows_rows_is_found_out_by_their_number(
    langchain: Database, backup: BackupMaker, restore: RestoreMaker, on_conflict: str
) -> None:
    langchain.run(
        "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " DELETE FROM public.langchain_pg_embedding WHERE id = 'doc-1'; RETURN NULL; END $$;"
        "CREATE TRIGGER swallows AFTER INSERT ON langchain_pg_embedding"
        " EXECUTE FUNCTION swallow()"
    )
    backup(langchain.url)
    if on_conflict == "fail":
        _emptied(langchain)

    restore.fails(
        langchain, "INTEGRITY_ERROR", "rolled back", on_conflict=on_conflict, fire_triggers=True
    )


_OTHER_KINDS = {
    "a view": "CREATE VIEW target AS SELECT * FROM docs",
    "a materialized view": "CREATE MATERIALIZED VIEW target AS SELECT * FROM docs",
    "a foreign table": (
        "CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;"
        "CREATE FOREIGN TABLE target (id int, note text) SERVER files"
        " OPTIONS (filename '/dev/null')"
    ),
    "a sequence": "CREATE SEQUENCE target",
    "an index": "CREATE INDEX target ON docs (note)",
    "a composite type": "CREATE TYPE target AS (id int, note text)",
}


@pytest.fixture
def docs(database: Database, backup: BackupMaker) -> Database:
    """A small table with a backup."""
    database.run("CREATE TABLE docs (id int PRIMARY KEY, note text)")
    database.run("INSERT INTO docs VALUES (1, 'one'), (2, NULL), (3, '')")
    assert backup(database.url, tables=("docs",)).error is None
    return database


@pytest.mark.parametrize("kind", list(_OTHER_KINDS))
def test_what_is_no_table_takes_no_rows(docs: Database, restore: RestoreMaker, kind: str) -> None:
    available = docs.ask_one("SELECT count(*) FROM pg_available_extensions WHERE name = 'file_fdw'")
    if kind == "a foreign table" and not available:
        docs.run(
            "CREATE FOREIGN DATA WRAPPER none; CREATE SERVER nowhere FOREIGN DATA WRAPPER none;"
            "CREATE FOREIGN TABLE target (id int, note text) SERVER nowhere"
        )
    else:
        docs.run(_OTHER_KINDS[kind])

    # pg_dump can't read a foreign table whose wrapper does nothing, hence no dump here.
    done = restore(docs.url, rename={"docs": "target"})

    restore.told(done, "INVALID_PARAMS", f"public.target in the target is {kind}", "rename")


def test_a_rule_that_would_rewrite_is_refused_where_it_matters(
    docs: Database, restore: RestoreMaker
) -> None:
    before = everything_in(docs)
    docs.run("CREATE RULE never AS ON INSERT TO docs DO INSTEAD NOTHING")

    restore.fails(docs, "INVALID_PARAMS", "has rules (never)", on_conflict="skip")
    docs.run("DELETE FROM docs")
    restore.succeeds(docs)  # COPY knows no rules.
    docs.run("DROP RULE never ON docs")
    assert everything_in(docs) == before


def test_a_target_that_lacks_a_column_is_another_table(
    docs: Database, restore: RestoreMaker
) -> None:
    docs.run("ALTER TABLE docs RENAME note TO remark")

    with kept_from_locking(docs, "docs"):
        restore.fails(docs, "INVALID_PARAMS", "public.docs lacks note of the backup", "rename")


def test_a_further_column_takes_its_default(docs: Database, restore: RestoreMaker) -> None:
    docs.run(
        "ALTER TABLE docs ADD nothing text, ADD seven int NOT NULL DEFAULT 7,"
        " ADD twice int GENERATED ALWAYS AS (id * 2) STORED,"
        " ADD number int GENERATED ALWAYS AS IDENTITY"
    )

    done = restore.succeeds(docs, truncate_before_restore=True)

    assert done.restored("docs").digest_matches is True
    rows = docs.ask("SELECT id, note, nothing, seven, twice FROM docs ORDER BY id")
    assert rows == [(1, "one", None, 7, 2), (2, None, None, 7, 4), (3, "", None, 7, 6)]


def test_a_further_column_that_needs_a_value_is_named_before_a_lock(
    docs: Database, restore: RestoreMaker
) -> None:
    docs.run("TRUNCATE docs; ALTER TABLE docs ADD owner text NOT NULL")

    with kept_from_locking(docs, "docs"):
        restore.fails(docs, "INVALID_PARAMS", "needs a value in owner", "default")


def test_a_column_that_the_target_computes_itself_is_refused(
    docs: Database, restore: RestoreMaker
) -> None:
    docs.run(
        "ALTER TABLE docs DROP note;ALTER TABLE docs ADD note text GENERATED ALWAYS AS ('x') STORED"
    )

    restore.fails(docs, "INVALID_PARAMS", "public.docs computes note itself")


def test_a_column_that_was_computed_and_is_an_ordinary_one_is_refused(
    database: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    database.run(
        "CREATE TABLE sums (id int PRIMARY KEY, double int GENERATED ALWAYS AS (id * 2) STORED);"
        "INSERT INTO sums VALUES (1)"
    )
    backup(database.url, tables=("sums",))
    database.run("DROP TABLE sums; CREATE TABLE sums (id int PRIMARY KEY, double int)")

    restore.fails(database, "INVALID_PARAMS", "double was computed in the backup")


def test_columns_may_stand_in_another_order(docs: Database, restore: RestoreMaker) -> None:
    rows = docs.ask("SELECT id, note FROM docs ORDER BY id")
    docs.run("DROP TABLE docs; CREATE TABLE docs (note text, gone int, id int PRIMARY KEY)")
    docs.run("ALTER TABLE docs DROP gone")

    done = restore.succeeds(docs)

    assert docs.ask("SELECT id, note FROM docs ORDER BY id") == rows
    assert done.restored("docs").digest_matches is True


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("ALTER TABLE docs ALTER note TYPE varchar(2)", "value too long"),
        ("ALTER TABLE docs ADD CHECK (id < 3)", "violates check constraint"),
        ("ALTER TABLE docs ALTER note SET NOT NULL", "violates not-null constraint"),
        ("ALTER TABLE docs ALTER id TYPE boolean USING true", "invalid input syntax"),
    ],
)
def test_a_row_that_does_not_fit_fails_and_is_named(
    docs: Database, restore: RestoreMaker, change: str, words: str
) -> None:
    docs.run("TRUNCATE docs")
    docs.run(change)

    done = restore.fails(docs, "DATABASE_ERROR", words, "COPY docs, line ")

    assert done.error is not None
    assert not done.error.can_retry


def test_a_column_that_rounds_is_found_out_by_the_digest(
    database: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    database.run("CREATE TABLE prices (id int PRIMARY KEY, price numeric)")
    database.run("INSERT INTO prices VALUES (1, 1.005), (2, 2)")
    backup(database.url, tables=("prices",))
    database.run("TRUNCATE prices; ALTER TABLE prices ALTER price TYPE numeric(9, 2)")

    restore.fails(
        database,
        "INTEGRITY_ERROR",
        "The rows of prices in the target are not those",
        "content digest",
    )


def test_a_vector_of_another_dimension_is_refused_before_a_lock(
    database: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    database.run(
        "CREATE TABLE v (id int PRIMARY KEY, e vector(3)); INSERT INTO v VALUES (1, '[1,2,3]')"
    )
    backup(database.url, tables=("v",))
    database.run("DROP TABLE v; CREATE TABLE v (id int PRIMARY KEY, e vector(5))")

    with kept_from_locking(database, "v"):
        restore.fails(database, "INVALID_PARAMS", "takes vector(5)", "holds vector(3)", "rename")


def test_a_vector_of_any_dimension_that_does_not_fit_fails_while_loading(
    database: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    database.run(
        "CREATE TABLE v (id int PRIMARY KEY, e vector); INSERT INTO v VALUES (1, '[1,2,3]')"
    )
    database.run("INSERT INTO v VALUES (2, '[1,2,3,4,5]'), (3, NULL)")
    backup(database.url, tables=("v",))
    database.run("DELETE FROM v WHERE id <> 1; ALTER TABLE v ALTER e TYPE vector(3)")

    restore.fails(
        database,
        "DATABASE_ERROR",
        "expected 3 dimensions, not 5",
        "COPY v, line 2, column e",
        truncate_before_restore=True,
    )


def test_typed_vectors_fit_a_column_that_takes_any(
    database: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    database.run(
        "CREATE TABLE v (id int PRIMARY KEY, e vector(3)); INSERT INTO v VALUES (1, '[1,2,3]')"
    )
    backup(database.url, tables=("v",))
    database.run("TRUNCATE v; ALTER TABLE v ALTER e TYPE vector")

    assert restore.succeeds(database).restored("v").digest_matches is True


_NUMBERED = """
    CREATE TABLE numbered (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text UNIQUE);
    INSERT INTO numbered (note) SELECT 'n' || i FROM generate_series(1, 5) i;
"""


@pytest.mark.parametrize("on_conflict", ["fail", "skip", "replace"])
def test_an_identity_that_is_always_generated_takes_the_backups_values(
    database: Database, backup: BackupMaker, restore: RestoreMaker, on_conflict: str
) -> None:
    database.run(_NUMBERED)
    database.run("DELETE FROM numbered WHERE id = 2")
    before = everything_in(database)
    backup(database.url, tables=("numbered",))
    database.run(
        "DELETE FROM numbered WHERE id > 2" if on_conflict != "fail" else "TRUNCATE numbered"
    )

    restore.succeeds(database, on_conflict=on_conflict)

    assert everything_in(database) == before


def test_a_sequence_moves_forward_to_the_backups_value(
    database: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    database.run(_NUMBERED)
    database.run("CREATE TABLE serial (id bigserial PRIMARY KEY)")
    database.run("INSERT INTO serial SELECT FROM generate_series(1, 3)")
    backup(database.url, tables=("numbered", "serial"))
    database.run("TRUNCATE numbered, serial RESTART IDENTITY")

    restore.succeeds(database)

    database.run("INSERT INTO numbered (note) VALUES ('new'); INSERT INTO serial DEFAULT VALUES")
    assert database.ask_one("SELECT id FROM numbered WHERE note = 'new'") == 6
    assert database.ask_one("SELECT max(id) FROM serial") == 4


def test_a_sequence_never_moves_back(
    database: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    database.run(_NUMBERED)
    backup(database.url, tables=("numbered",))
    database.run("SELECT setval('numbered_id_seq', 40)")

    restore.succeeds(database, truncate_before_restore=True)

    assert database.ask_one("SELECT last_value FROM numbered_id_seq") == 40


def test_a_sequence_that_the_table_only_draws_from_moves_forward_too(
    database: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    database.run(
        "CREATE SEQUENCE numbers; CREATE TABLE drawn (id int PRIMARY KEY DEFAULT"
        " nextval('numbers')); INSERT INTO drawn SELECT FROM generate_series(1, 5)"
    )
    backup(database.url, tables=("drawn",))
    database.run("TRUNCATE drawn; SELECT setval('numbers', 1)")

    restore.succeeds(database)

    database.run("INSERT INTO drawn DEFAULT VALUES")
    assert database.ask_one("SELECT max(id) FROM drawn") == 6


def test_a_descending_sequence_moves_on_downwards(
    database: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    database.run(
        "CREATE TABLE down (id int GENERATED BY DEFAULT AS IDENTITY (INCREMENT -1) PRIMARY KEY);"
        "INSERT INTO down SELECT FROM generate_series(1, 3)"
    )
    backup(database.url, tables=("down",))
    database.run("TRUNCATE down RESTART IDENTITY")

    restore.succeeds(database)

    database.run("INSERT INTO down DEFAULT VALUES")
    assert database.ask_one("SELECT min(id) FROM down") == -4


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
        found = database.ask(f"SELECT max(id), min(down), max(none) FROM {table}")  # noqa: S608
        assert found == [(4, -4, 1)]


def test_a_sequence_that_the_role_may_not_set_is_told(
    database: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    database.run("CREATE TABLE serial (id serial PRIMARY KEY)")
    database.run("INSERT INTO serial SELECT FROM generate_series(1, 3)")
    backup(database.url, tables=("serial",))
    database.run("TRUNCATE serial RESTART IDENTITY")
    url = database.create_role("may_load")
    database.run("GRANT SELECT, INSERT, UPDATE, DELETE ON serial TO may_load")

    done = restore(url)

    assert done.error is None
    assert count(database, "serial") == 3
    assert any("public.serial_id_seq was left" in notice for notice in done.result.notices)


PARTITIONED = """
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


@pytest.mark.parametrize("is_truncated", [False, True])
def test_a_partitioned_table_takes_its_rows_into_its_partitions(
    database: Database, backup: BackupMaker, restore: RestoreMaker, is_truncated: bool
) -> None:
    database.run(PARTITIONED)
    before = everything_in(database)
    backup(database.url, tables=("parts",))
    if not is_truncated:
        database.run("TRUNCATE parts")

    done = restore.succeeds(database, truncate_before_restore=is_truncated)

    assert everything_in(database) == before
    assert done.restored("parts").digest_matches is True


def test_a_partition_that_comes_with_its_root_is_not_loaded_twice(
    database: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    database.run(PARTITIONED)
    before = everything_in(database)
    backup(database.url, tables=("parts_eu_1", "parts", "parts_eu"))
    database.run("TRUNCATE parts")

    done = restore.succeeds(database)

    assert everything_in(database) == before
    assert list(done.result.restore_results) == ["parts"]
    for name in ("parts_eu_1", "parts_eu"):
        assert f"{name} is a partition; its rows come with the partitioned table." in (
            done.result.notices
        )


def test_a_partition_alone_takes_its_rows(
    database: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    database.run(PARTITIONED)
    before = everything_in(database)
    backup(database.url, tables=("parts", "parts_eu_1"))
    database.run("TRUNCATE parts_eu_1")

    restore.succeeds(database, tables=("parts_eu_1",))

    assert everything_in(database) == before


def test_inheritance_children_keep_their_own_rows(
    database: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    database.run(
        "CREATE TABLE base (id int PRIMARY KEY); CREATE TABLE child (extra text) INHERITS (base);"
        "INSERT INTO base VALUES (1), (2); INSERT INTO child VALUES (1, 'x')"
    )
    before = everything_in(database)
    backup(database.url, tables=("base",))

    restore.succeeds(database, truncate_before_restore=True)

    assert everything_in(database) == before


def test_row_security_that_applies_to_the_role_is_refused(
    langchain: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    backup(langchain.url)
    url = langchain.create_role("guarded_loader")
    langchain.run(
        "GRANT ALL ON ALL TABLES IN SCHEMA public TO guarded_loader;"
        "ALTER TABLE langchain_pg_embedding ENABLE ROW LEVEL SECURITY;"
        "CREATE POLICY few ON langchain_pg_embedding USING (id < 'doc-3')"
    )

    restore.fails(
        langchain,
        "PERMISSION_DENIED",
        "Row-level security of public.langchain_pg_embedding",
        "BYPASSRLS",
        url=url,
    )
    restore.succeeds(langchain, truncate_before_restore=True)  # As a superuser.


@pytest.mark.parametrize(
    ("grants", "parameters"),
    [
        ("SELECT", {}),
        ("INSERT", {}),
        ("SELECT, INSERT", {"truncate_before_restore": True}),
        ("SELECT, INSERT", {"on_conflict": "replace"}),
    ],
)
def test_a_role_that_may_not_is_told_and_has_done_nothing(
    docs: Database, restore: RestoreMaker, grants: str, parameters: dict[str, Any]
) -> None:
    role = f"lacks_{abs(hash((grants, str(parameters))))}"
    url = docs.create_role(role)
    docs.run(f"GRANT {grants} ON docs TO {role}")

    restore.fails(docs, "PERMISSION_DENIED", "docs", "Grant", url=url, **parameters)


def test_a_role_that_may_write_needs_no_more(docs: Database, restore: RestoreMaker) -> None:
    before = rows_of(docs)
    url = docs.create_role("writes_docs")
    docs.run("GRANT SELECT, INSERT, UPDATE, DELETE ON docs TO writes_docs; DELETE FROM docs")

    done = restore(url)

    assert done.error is None, done.error
    assert rows_of(docs) == before


def test_an_empty_backup_empties_and_fills_nothing(
    database: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    database.run("CREATE TABLE docs (id int PRIMARY KEY)")
    backup(database.url, tables=("docs",))

    assert restore.succeeds(database).restored("docs").rows_restored == 0
    database.run("INSERT INTO docs VALUES (1)")
    assert restore.succeeds(database).restored("docs").digest_matches is True
    assert count(database, "docs") == 1
    restore.succeeds(database, truncate_before_restore=True)
    assert count(database, "docs") == 0


@pytest.mark.parametrize("columns", ["", "n int GENERATED ALWAYS AS (1 + 1) STORED"])
def test_a_table_with_nothing_to_write_gets_its_number_of_rows_back(
    database: Database, backup: BackupMaker, restore: RestoreMaker, columns: str
) -> None:
    database.run(f"CREATE TABLE bare ({columns})")
    for _ in range(3):
        database.run("INSERT INTO bare DEFAULT VALUES")
    backup(database.url, tables=("bare",))

    done = restore.succeeds(database, truncate_before_restore=True)

    assert count(database, "bare") == 3
    assert done.restored("bare").digest_matches is True


def test_a_copy_of_an_inheritance_child_is_not_shown_in_the_parent(
    database: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    database.run("CREATE TABLE base (id int); CREATE TABLE child (extra text) INHERITS (base)")
    backup(database.url, tables=("base", "child"))

    restore.fails(
        database,
        "INVALID_PARAMS",
        "its rows would show in public.base",
        tables=("child",),
        rename={"child": "copied"},
    )


@pytest.mark.parametrize("initially", ["IMMEDIATE", "DEFERRED"])
def test_a_constraint_trigger_that_changes_rows_late_is_found_out_by_the_digest(
    database: Database, backup: BackupMaker, restore: RestoreMaker, initially: str
) -> None:
    database.run("CREATE TABLE late (id int PRIMARY KEY, x int); INSERT INTO late VALUES (1, 2)")
    backup(database.url, tables=("late",))
    database.run("""
        TRUNCATE late;
        CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN UPDATE public.late SET x = -1 WHERE id = NEW.id; RETURN NULL; END'
    """)
    database.run(
        f"CREATE CONSTRAINT TRIGGER changes AFTER INSERT ON late DEFERRABLE INITIALLY {initially}"
        " FOR EACH ROW EXECUTE FUNCTION change()"
    )

    restore.fails(database, "INTEGRITY_ERROR", "content digest", fire_triggers=True)


def test_an_index_that_is_not_valid_is_no_key(
    database: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    database.run(
        "CREATE TABLE parts (id int NOT NULL, k int NOT NULL) PARTITION BY LIST (k);"
        "CREATE TABLE part PARTITION OF parts DEFAULT;"
        "INSERT INTO parts SELECT i, i FROM generate_series(1, 5) i"
    )
    backup(database.url, tables=("parts",))
    database.run("CREATE UNIQUE INDEX half_made ON ONLY parts (id, k)")
    database.run("DELETE FROM parts WHERE id = 1")

    restore.fails(database, "INVALID_PARAMS", "no unique key")


def test_a_foreign_key_that_went_with_its_parent_is_told(
    langchain: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    backup(langchain.url)
    langchain.run("DROP TABLE langchain_pg_collection CASCADE")

    done = restore.succeeds(langchain, truncate_before_restore=True)

    (notice,) = done.result.notices
    assert "lacks the foreign key langchain_pg_embedding_collection_id_fkey" in notice
    langchain.run(notice.partition("To make it again: ")[2])
