"""Round trips of a SQL_ASCII database, whose bytes may be in any encoding."""

from collections.abc import Callable, Iterator

import pytest

from vector_backup_pipeline.embedded import EmbeddedServer
from vector_backup_pipeline_tests.fix_backup import LANGCHAIN, BackupMaker
from vector_backup_pipeline_tests.fix_postgres import Database, drop_database
from vector_backup_pipeline_tests.fix_restore import TRUNCATING, RestoreMaker, Saved

MakeDatabase = Callable[[str], Database]
BYTES = "SELECT name::bytea FROM langchain_pg_collection ORDER BY uuid"


@pytest.fixture
def make_database(server18: EmbeddedServer) -> Iterator[MakeDatabase]:
    """Makes empty SQL_ASCII databases."""
    made: list[Database] = []

    def make(name: str) -> Database:
        Database(server18, "postgres").run(
            f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII'"
            " LC_COLLATE 'C' LC_CTYPE 'C' STRATEGY file_copy"
        )
        made.append(Database(server18, name))
        return made[-1]

    yield make
    for database in made:
        drop_database(server18, database.name)


@pytest.fixture
def latin(make_database: MakeDatabase) -> Database:
    """Collections in Latin-1, in UTF-8 and in neither."""
    source = make_database("latin_source")
    source.psql(r"""
        CREATE TABLE langchain_pg_collection (uuid uuid PRIMARY KEY, name text UNIQUE);
        CREATE TABLE langchain_pg_embedding (
            id serial PRIMARY KEY, collection_id uuid REFERENCES langchain_pg_collection, "é" text);
        INSERT INTO langchain_pg_collection SELECT gen_random_uuid(), name
            FROM unnest(ARRAY[E'caf\351', E'caf\303\251', E'\377",\n', 'plain']) name;
        INSERT INTO langchain_pg_embedding (collection_id, "é")
            SELECT uuid, name || name FROM langchain_pg_collection
    """)
    return source


@pytest.mark.parametrize("form", ["csv", "binary"])
def test_all_bytes_come_back(
    latin: Database,
    make_database: MakeDatabase,
    backup: BackupMaker,
    restore: RestoreMaker,
    form: str,
) -> None:
    made = backup(latin.url, format=form)
    assert made.error is None
    assert made.manifest.server.encoding == "SQL_ASCII"
    assert b"caf\xe9" in made.path("langchain_pg_collection").read_bytes()

    target = make_database("latin_target")
    assert restore.succeeds(target).restored("langchain_pg_embedding").digest_matches
    assert target.ask(BYTES) == latin.ask(BYTES)
    restore.succeeds(latin, on_conflict="replace")
    restore.succeeds(latin, **TRUNCATING)
    latin.run("DELETE FROM langchain_pg_embedding; DELETE FROM langchain_pg_collection")
    restore.succeeds(latin, collections=("plain", "café"))
    assert latin.ask_one("SELECT count(*) FROM langchain_pg_embedding") == 2


def test_both_methods_write_the_same_bytes(latin: Database, backup: BackupMaker) -> None:
    files = [
        made.path(table).read_bytes()
        for made in (backup(latin.url), backup(latin.url, export_method="cursor"))
        for table in LANGCHAIN
    ]

    assert files[:2] == files[2:]


def test_such_a_set_cannot_be_restored_into_another_encoding(
    latin: Database, database: Database, backup: BackupMaker, restore: RestoreMaker
) -> None:
    backup(latin.url)

    restore.fails(database, "INVALID_PARAMS", "SQL_ASCII database latin_source", "UTF8")


def test_utf8_can_be_restored_into_such_a_database(
    saved: Saved, make_database: MakeDatabase, restore: RestoreMaker
) -> None:
    saved("""CREATE TABLE "é" ("ü" text); INSERT INTO "é" VALUES ('向量')""", "é")
    target = make_database("latin_target")

    restore.succeeds(target)
    restore.succeeds(target, rename={"é": "ö%s"}, **TRUNCATING)
    assert target.psql('SELECT "ü" FROM "ö%s"') == "向量\n"


def test_a_definition_that_is_not_utf8_fails_its_table_alone(
    latin: Database, backup: BackupMaker
) -> None:
    latin.run(r"COMMENT ON TABLE langchain_pg_embedding IS E'caf\351'")
    made = backup(latin.url)

    assert made.error is not None
    assert made.error.error_type == "INVALID_PARAMS"
    assert "not UTF-8" in made.error.message
    assert made.file("langchain_pg_collection").rows == 4
