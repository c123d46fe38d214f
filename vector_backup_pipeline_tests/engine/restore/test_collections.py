"""Some of LangChain's collections: their rows in both tables, and no others."""

from typing import Any

import pytest

from vector_backup_pipeline_tests.faults.watching import COLLECTIONS, EMBEDDINGS, count
from vector_backup_pipeline_tests.fix_backup import BackupMaker
from vector_backup_pipeline_tests.fix_postgres import Database
from vector_backup_pipeline_tests.fix_restore import RestoreMaker, rows_of

# Two of LangChain's layouts: today's, and an older one in which names need not be unique.
_TODAY = """
    CREATE TABLE langchain_pg_collection
        (uuid uuid PRIMARY KEY, name varchar NOT NULL UNIQUE, cmetadata json);
    CREATE TABLE langchain_pg_embedding
        (id varchar PRIMARY KEY, collection_id uuid REFERENCES langchain_pg_collection,
         embedding vector(2), document varchar, cmetadata jsonb);
"""
_OLDER = """
    CREATE TABLE langchain_pg_collection (name varchar, cmetadata json, uuid uuid PRIMARY KEY);
    CREATE TABLE langchain_pg_embedding
        (collection_id uuid REFERENCES langchain_pg_collection, embedding vector, document varchar,
         cmetadata json, custom_id varchar, id uuid PRIMARY KEY DEFAULT gen_random_uuid());
"""
# Identities as texts, of which the binary form is another one.
_TEXT_KEYS = _TODAY.replace("uuid uuid PRIMARY", "uuid varchar PRIMARY").replace(
    "collection_id uuid", "collection_id varchar"
)
_BINARY = {"format": "binary", "compression": "zstd"}
AWKWARD = 'so "called", it\'s\n{x}\\'
_ROWS = """
    INSERT INTO langchain_pg_collection (uuid, name) VALUES
        ('00000000-0000-0000-0000-00000000000a', 'a'),
        ('00000000-0000-0000-0000-00000000000b', 'b'),
        ('00000000-0000-0000-0000-00000000000c', %s),
        ('00000000-0000-0000-0000-00000000000d', 'empty');
"""
_EMBEDDINGS = """
    INSERT INTO langchain_pg_embedding (collection_id, embedding, document{id})
        SELECT c.uuid, '[1,2]', c.name || i {value}
          FROM langchain_pg_collection c, generate_series(1, 10) i WHERE c.name <> 'empty';
    INSERT INTO langchain_pg_embedding (document{id}) SELECT 'of none' {none};
"""


def _fill(database: Database, layout: str) -> None:
    database.run(layout)
    database.run(_ROWS, [AWKWARD])
    id_ = {"id": ", id", "value": ", c.name || '-' || i", "none": ", 'none'"}
    ids = id_ if layout != _OLDER else {"id": "", "value": "", "none": ""}
    database.run(_EMBEDDINGS.format(**ids))


@pytest.fixture(
    params=[(_TODAY, {}), (_OLDER, {}), (_TODAY, _BINARY), (_TEXT_KEYS, _BINARY)],
    ids=["today's layout", "an older layout", "binary", "binary text keys"],
)
def three(request: pytest.FixtureRequest, database: Database, backup: BackupMaker) -> Database:
    """Collections a, b, an awkward one of ten embeddings each, an empty one; and a backup."""
    layout, form = request.param
    _fill(database, layout)
    assert backup(database.url, **form).error is None
    return database


@pytest.fixture
def today(database: Database, backup: BackupMaker) -> Database:
    _fill(database, _TODAY)
    assert backup(database.url).error is None
    return database


def _documents(database: Database) -> dict[str, int]:
    """Embeddings by collection."""
    return dict(
        database.ask(
            "SELECT name, count(e.collection_id) FROM langchain_pg_collection c"
            " LEFT JOIN langchain_pg_embedding e ON e.collection_id = c.uuid GROUP BY name"
        )
    )


def test_only_the_rows_of_the_named_collections_come_back(
    three: Database, restore: RestoreMaker
) -> None:
    three.run("TRUNCATE langchain_pg_collection, langchain_pg_embedding")

    done = restore.succeeds(three, collections=("b", AWKWARD))

    assert _documents(three) == {"b": 10, AWKWARD: 10}
    assert count(three) == 20
    assert done.restored(COLLECTIONS).rows_restored == 2
    assert done.restored(EMBEDDINGS).rows_restored == 20
    assert done.restored(EMBEDDINGS).digest_matches is None


def test_a_collection_is_restored_beside_the_others(three: Database, restore: RestoreMaker) -> None:
    before = rows_of(three)
    for on_conflict, restored, changed in (("skip", 4, 2), ("replace", 10, 1)):
        three.run(
            "DELETE FROM langchain_pg_embedding WHERE document ~ '^(a|b)[2-5]$';"
            "UPDATE langchain_pg_embedding SET document = 'changed' WHERE document IN ('a1', 'b1')"
        )

        done = restore.succeeds(three, collections=("b",), on_conflict=on_conflict)

        assert _documents(three) == {"a": 6, "b": 10, AWKWARD: 10, "empty": 0}
        assert done.restored(EMBEDDINGS).rows_restored == restored
        left = "SELECT count(*) FROM langchain_pg_embedding WHERE document = 'changed'"
        assert three.ask_one(left) == changed
        restore.succeeds(three, on_conflict="replace")
        assert rows_of(three) == before


def test_two_collections_of_one_name_both_come(
    database: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    _fill(database, _OLDER)
    database.run("UPDATE langchain_pg_collection SET name = 'a' WHERE name = 'b'")
    backup(database.url)
    database.run("TRUNCATE langchain_pg_collection, langchain_pg_embedding")

    done = restore.succeeds(database, collections=("a",))

    assert done.restored(COLLECTIONS).rows_restored == 2
    assert _documents(database) == {"a": 20}


def test_collections_into_new_tables(today: Database, restore: RestoreMaker) -> None:
    today.run("DROP TABLE langchain_pg_collection, langchain_pg_embedding")

    done = restore.succeeds(today, collections=("a",))

    assert (_documents(today), count(today)) == ({"a": 10}, 10)
    assert done.restored(EMBEDDINGS).digest_matches is None


@pytest.mark.parametrize(
    ("parameters", "error_type", "words"),
    [
        (
            {"collections": ("a", "A", "no such")},
            "RESOURCE_NOT_FOUND",
            ("no collection 'A', 'no such'", "It has: a, b, empty, so"),
        ),
        (
            {"collections": ("a",), "tables": (EMBEDDINGS,)},
            "INVALID_PARAMS",
            (f"collections requires {COLLECTIONS}",),
        ),
        (
            {"collections": ("a",), "tables": ("docs", COLLECTIONS)},
            "INVALID_PARAMS",
            (f"docs is not one of them. Name only {COLLECTIONS} and {EMBEDDINGS} in tables",),
        ),
    ],
    ids=["unknown", "without the names", "another table"],
)
def test_a_wrong_choice_is_explained(
    database: Database,
    backup: BackupMaker,
    restore: RestoreMaker,
    parameters: dict[str, Any],
    error_type: str,
    words: tuple[str, ...],
) -> None:
    _fill(database, _TODAY)
    database.run("CREATE TABLE docs (id int PRIMARY KEY)")
    backup(database.url, tables=("docs", COLLECTIONS, EMBEDDINGS))

    restore.fails(
        database,
        error_type,
        *words,
        **{"tables": (COLLECTIONS, EMBEDDINGS), "on_conflict": "skip", **parameters},
    )
