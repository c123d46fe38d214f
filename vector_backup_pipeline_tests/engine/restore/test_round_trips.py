"""Every kind of table is restored into an empty database: definition, rows, values."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from vector_backup_pipeline.embedded import EmbeddedServer
from vector_backup_pipeline.engine.postgres.drill_database import DrillServer, drill_database
from vector_backup_pipeline.engine.results import RestoredTable
from vector_backup_pipeline_tests.engine.postgres.rich_schema import ONLY_18, RICH_SCHEMA
from vector_backup_pipeline_tests.engine.test_round_trip import (
    PARTITIONED,
    RANGE_TYPE,
    TYPES,
    make_table_of_every_type,
)
from vector_backup_pipeline_tests.fix_backup import BackupMaker, FinishedBackup
from vector_backup_pipeline_tests.fix_definitions import ROLES
from vector_backup_pipeline_tests.fix_postgres import (
    LANGCHAIN_TABLES,
    Database,
    new_database,
    settings_for,
    user_url,
)
from vector_backup_pipeline_tests.fix_restore import RestoreMaker, pg_dump

MANY_KINDS = """
    CREATE TABLE numbered (id serial PRIMARY KEY, note text);
    INSERT INTO numbered (note) VALUES ('a'), (NULL), ('');
    CREATE TABLE no_columns ();
    INSERT INTO no_columns DEFAULT VALUES;
    INSERT INTO no_columns DEFAULT VALUES;
    CREATE TABLE made_up (a text, total int GENERATED ALWAYS AS (b * 2) STORED, gone int, b int,
        id int GENERATED ALWAYS AS IDENTITY (START 7 INCREMENT 3));
    ALTER TABLE made_up DROP COLUMN gone;
    INSERT INTO made_up (a, b) SELECT 'x', i FROM generate_series(1, 5) i;
    CREATE UNLOGGED TABLE fleeting (id int, v vector(3));
    INSERT INTO fleeting VALUES (1, '[1,2,3]'), (2, NULL);
    CREATE TABLE sole (t text);
    INSERT INTO sole VALUES (NULL), (''), ('\\.'), (E'a\\nb'), ('"');
    CREATE TABLE "Größe.app" ("a ""b"" %s" text);
    INSERT INTO "Größe.app" VALUES ('ü');
    CREATE TABLE guarded (id int PRIMARY KEY, owner text);
    INSERT INTO guarded VALUES (1, 'postgres'), (2, 'nobody');
    CREATE POLICY mine ON guarded USING (owner = current_user);
    ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
    CREATE TABLE refers (id int REFERENCES guarded, itself int, PRIMARY KEY (id),
        FOREIGN KEY (itself) REFERENCES refers DEFERRABLE INITIALLY DEFERRED);
    INSERT INTO refers VALUES (2, 1), (1, 2);
    CREATE TABLE empty_one (id int, v vector(2));
"""
TABLES = (
    *("langchain_pg_embedding", "langchain_pg_collection", "numbered", "no_columns"),
    *("made_up", "fleeting", "sole", '"Größe.app"', "guarded", "refers", "empty_one", "parts"),
    *("every_type", '"Odd, ""name"""'),
)


def make_every_kind(database: Database, *, with_regclass: bool) -> None:
    database.run(LANGCHAIN_TABLES)
    database.run(
        "CREATE INDEX by_distance ON langchain_pg_embedding USING hnsw (embedding vector_l2_ops)"
    )
    database.run(MANY_KINDS)
    database.run(PARTITIONED)
    make_table_of_every_type(database)
    if not with_regclass:
        # The tables and types that values name must have their original names.
        for number, type_name in enumerate(TYPES):
            if type_name.startswith("reg"):
                database.run(f"ALTER TABLE every_type DROP COLUMN c{number}")


def dump(database: Database, server: EmbeddedServer, *options: str) -> list[str]:
    """`pg_dump`'s lines, sorted; of one version for both databases."""
    lines = pg_dump(database, "--no-owner", "--no-privileges", *options, of_server=server)
    noise = re.compile(r"--|SET |$")
    return sorted(line for line in lines if not noise.match(line))


@pytest.mark.parametrize(
    ("way", "from_version", "to_version"),
    [("staging schema", 18, 18), ("one transaction", 16, 18), ("staging schema", 16, 16)],
)
def test_every_kind_of_table_comes_back_from_nothing(
    way: str,
    from_version: int,
    to_version: int,
    backup: BackupMaker,
    restore: RestoreMaker,
    request: pytest.FixtureRequest,
) -> None:
    source_server: EmbeddedServer = request.getfixturevalue(f"server{from_version}")
    target_server: EmbeddedServer = request.getfixturevalue(f"server{to_version}")
    if way == "staging schema":
        request.getfixturevalue("in_staging")
    with new_database(source_server, "source_of_all") as source:
        source.run("CREATE EXTENSION vector")
        make_every_kind(source, with_regclass=way == "one transaction")
        made = backup(source.url, tables=TABLES)
        assert made.error is None
        with new_database(target_server, "risen") as risen:
            if way == "staging schema":
                risen.run("CREATE EXTENSION vector")
            risen.run(RANGE_TYPE)
            done = restore.succeeds(risen)

            entries = done.result.restore_results
            assert all(isinstance(e, RestoredTable) and e.digest_matches for e in entries.values())
            assert list(entries) == list(TABLES)
            rows = dump(source, target_server, "--data-only")
            assert dump(risen, target_server, "--data-only") == rows
            assert len(rows) > 900
            assert dump(risen, target_server, "--schema-only") == dump(
                source, target_server, "--schema-only"
            )


@contextmanager
def restore_test_database(
    server: EmbeddedServer, made: FinishedBackup
) -> Iterator[tuple[Database, str]]:
    """A restore test's database, and the connection string of its role."""
    root = settings_for(server.connection_string())
    extensions = [d for d in made.manifest.dependencies if d.kind == "extension"]
    with drill_database(
        DrillServer(root, is_throwaway=False), "1" * 32, (), "UTF8", extensions
    ) as settings:
        name, user = settings.parameters["dbname"], settings.parameters["user"]
        yield Database(server, name), user_url(server, name, user)


def test_all_that_one_can_say_about_a_table_comes_back_in_a_restore_test(
    database: Database, backup: BackupMaker, restore: RestoreMaker, server18: EmbeddedServer
) -> None:
    database.run("DROP EXTENSION vector")
    for role in ROLES:
        database.run(
            f"DO $$ BEGIN CREATE ROLE {role} LOGIN;"
            " EXCEPTION WHEN duplicate_object THEN NULL; END $$"
        )
    database.run(RICH_SCHEMA + ONLY_18)
    tables = [
        f'"{schema}".{chr(34)}{name.replace(chr(34), chr(34) * 2)}{chr(34)}'
        for schema, name in database.ask(
            "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n"
            " ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition"
            " AND n.nspname !~ '^(pg_|information_schema)' ORDER BY c.oid"
        )
    ]
    made = backup(database.url, tables=tuple(tables))
    assert made.error is None
    with restore_test_database(server18, made) as (risen, url):
        done = restore(url)
        assert done.error is None
        assert dump(risen, server18) == dump(database, server18)


@pytest.mark.usefixtures("in_staging")
def test_values_that_name_a_table_are_loaded_where_it_has_its_name(
    database: Database, backup: BackupMaker, restore: RestoreMaker, server18: EmbeddedServer
) -> None:
    database.run("CREATE TABLE named (id int); CREATE TABLE names (which regclass)")
    database.run("INSERT INTO names VALUES ('public.named')")
    assert backup(database.url, tables=("named", "names")).error is None
    with new_database(server18, "risen") as risen:
        restore.succeeds(risen)

        assert risen.ask_one("SELECT which::text FROM names") == "named"
