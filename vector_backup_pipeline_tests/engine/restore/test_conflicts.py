"""`skip` leaves existing rows as they are; `replace` overwrites them."""

import pytest

from vector_backup_pipeline_tests.faults.watching import COLLECTIONS, EMBEDDINGS, count
from vector_backup_pipeline_tests.fix_backup import BackupMaker
from vector_backup_pipeline_tests.fix_postgres import Database
from vector_backup_pipeline_tests.fix_restore import RestoreMaker, Saved, everything_in

_CHANGES = """
    DELETE FROM langchain_pg_embedding WHERE id IN ('doc-2', 'doc-3', 'doc-40');
    UPDATE langchain_pg_embedding SET document = NULL, embedding = '[0,0,1]' WHERE id = 'doc-1';
    UPDATE langchain_pg_collection SET cmetadata = '{"changed": true}' WHERE name = 'collection 2';
    INSERT INTO langchain_pg_embedding (id, document) VALUES ('new', 'after the backup');
"""


def test_skip_brings_back_what_is_missing_and_changes_nothing(
    corpus: Database, restore: RestoreMaker
) -> None:
    corpus.run(_CHANGES)

    done = restore.succeeds(corpus, on_conflict="skip")

    assert count(corpus) == 59
    assert corpus.ask_one("SELECT document FROM langchain_pg_embedding WHERE id = 'doc-1'") is None
    assert done.restored(EMBEDDINGS).rows_restored == 3
    assert done.restored(COLLECTIONS).rows_restored == 0
    assert done.restored(EMBEDDINGS).digest_matches is None
    assert f"{EMBEDDINGS}: 55 rows existed already and were skipped." in done.result.notices


def test_replace_brings_back_what_is_missing_and_what_was_changed(
    langchain: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    before = everything_in(langchain)
    backup(langchain.url)
    langchain.run(_CHANGES)

    done = restore.succeeds(langchain, on_conflict="replace")

    assert done.restored(EMBEDDINGS).rows_restored == 58
    assert done.restored(COLLECTIONS).rows_restored == 4
    assert done.restored(EMBEDDINGS).digest_matches is None
    assert count(langchain) == 59
    langchain.run("DELETE FROM langchain_pg_embedding WHERE id = 'new'")
    assert everything_in(langchain) == before


_TWO_KEYS = """
    CREATE TABLE two (id int PRIMARY KEY, code text UNIQUE, note text);
    INSERT INTO two VALUES (1, 'a', 'one'), (2, 'b', 'two'), (3, 'c', NULL);
"""


def test_a_row_that_collides_on_another_key_than_its_own_fails_whole(
    saved: Saved, restore: RestoreMaker
) -> None:
    two = saved(_TWO_KEYS, "two")
    two.run("DELETE FROM two WHERE id > 1; INSERT INTO two VALUES (9, 'b', 'taken')")

    for on_conflict in ("skip", "replace"):
        words = ("two_code_key", "(code)=(b)")
        restore.fails(two, "DATABASE_ERROR", *words, on_conflict=on_conflict)


@pytest.mark.parametrize(
    ("in_backup", "in_target", "is_safe"),
    [
        ("vector", "vector(2)", True),
        ("vector(2)", "vector", True),
        ("varchar", "text", True),
        ("text", "varchar", True),
        ("numeric(5,1)", "numeric", True),
        ("timestamptz(3)", "timestamptz(3)", True),
        ("numeric", "numeric(5,1)", False),
        ("vector(2)", "halfvec(2)", False),
        ("float8", "real", False),
        ("timestamptz", "timestamp", False),
        ("varchar", "varchar(3)", False),
    ],
)
def test_a_type_that_could_change_values_unseen_is_refused(
    saved: Saved, restore: RestoreMaker, in_backup: str, in_target: str, is_safe: bool
) -> None:
    database = saved(f"CREATE TABLE typed (id int PRIMARY KEY, a {in_backup})", "typed")
    database.run(f"DROP TABLE typed; CREATE TABLE typed (id int PRIMARY KEY, a {in_target})")

    for on_conflict in ("skip", "replace"):
        if is_safe:
            restore.succeeds(database, on_conflict=on_conflict)
        else:
            words = "The column a of public.typed has type"
            restore.fails(database, "INVALID_PARAMS", words, on_conflict=on_conflict)


@pytest.mark.parametrize(
    "definition",
    [
        "id int, region text, note text, PRIMARY KEY (id, region)",
        "note text, region text NOT NULL, id int NOT NULL, UNIQUE (region, id) INCLUDE (note)",
        'note text, id int NOT NULL, region text NOT NULL, "of ""it""" int, UNIQUE (id)',
        "note text, id int, region text, PRIMARY KEY (id)) PARTITION BY RANGE (id);"
        "CREATE TABLE low PARTITION OF keyed FOR VALUES FROM (0) TO (2);"
        "CREATE TABLE high PARTITION OF keyed FOR VALUES FROM (2) TO (9",
    ],
    ids=["primary key of two", "unique constraint that includes", "no primary key", "partitioned"],
)
def test_any_key_over_columns_that_hold_no_null_will_do(
    saved: Saved, restore: RestoreMaker, definition: str
) -> None:
    rows = "INSERT INTO keyed (id, region, note) VALUES (1, 'a', 'x'), (2, 'a', NULL)"
    database = saved(f"CREATE TABLE keyed ({definition}); {rows}", "keyed")
    before = everything_in(database)
    for on_conflict in ("skip", "replace"):
        database.run("DELETE FROM keyed WHERE id = 2")

        restore.succeeds(database, on_conflict=on_conflict)

        assert everything_in(database) == before


def test_a_foreign_key_that_follows_is_not_set_off_by_a_replaced_parent(
    langchain: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    """ON DELETE CASCADE: replacing must not delete."""
    before = everything_in(langchain)
    backup(langchain.url)

    restore.succeeds(langchain, tables=(COLLECTIONS,), on_conflict="replace")

    assert everything_in(langchain) == before


def test_replace_cannot_set_an_identity_beside_the_key(saved: Saved, restore: RestoreMaker) -> None:
    database = saved(
        "CREATE TABLE coded (code text PRIMARY KEY, number int GENERATED ALWAYS AS IDENTITY);"
        "INSERT INTO coded (code) VALUES ('a'), ('b')",
        "coded",
    )
    words = 'column "number" can only be updated to DEFAULT'
    restore.fails(database, "DATABASE_ERROR", words, on_conflict="replace")


@pytest.mark.parametrize("on_conflict", ["skip", "replace"])
def test_columns_that_are_computed_or_the_targets_own_are_left_to_it(
    saved: Saved, restore: RestoreMaker, on_conflict: str
) -> None:
    database = saved(
        "CREATE TABLE docs"
        " (id int PRIMARY KEY, n int, twice int GENERATED ALWAYS AS (n * 2) STORED);"
        "INSERT INTO docs VALUES (1, 1), (2, 2)",
        "docs",
    )
    database.run(
        "ALTER TABLE docs ADD added text NOT NULL DEFAULT 'd'; DELETE FROM docs WHERE id = 2;"
        "UPDATE docs SET n = 10, added = 'own'"
    )

    restore.succeeds(database, on_conflict=on_conflict)

    first = (1, 10, 20, "own") if on_conflict == "skip" else (1, 1, 2, "own")
    assert database.ask("SELECT id, n, twice, added FROM docs ORDER BY id") == [
        first,
        (2, 2, 4, "d"),
    ]
