"""A restore that fails or dies leaves the target as it was, and takes nothing from others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import count

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.embedded import EmbeddedServer
from vector_backup_pipeline.engine.postgres.recreation import NewTable, Recreation
from vector_backup_pipeline.engine.postgres.scratch import (
    drop_dead_scratch,
    drop_scratch,
    hold_scratch,
    note_extensions,
    scratch_name,
)
from vector_backup_pipeline.engine.postgres.session import apply_session_settings
from vector_backup_pipeline.engine.table_definition import Definitions
from vector_backup_pipeline_tests.engine.postgres.test_definitions import Database, read_all
from vector_backup_pipeline_tests.fix_dagster import eventually

A, B = scratch_name("aaaa"), scratch_name("bbbb")
_NUMBERS = count(1)


@pytest.fixture(params=[18, 16])
def server(request: pytest.FixtureRequest) -> EmbeddedServer:
    server: EmbeddedServer = request.getfixturevalue(f"server{request.param}")
    return server


@pytest.fixture
def databases(server: EmbeddedServer) -> Iterator[Callable[[], Database]]:
    made = []

    def make() -> Database:
        name = f"scratch_{next(_NUMBERS)}"
        with closing(psycopg2.connect(server.connection_string())) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
        made.append(name)
        dsn = server.connection_string(name)
        return Database(dsn, server.version, server.bin_directory / "pg_dump")

    yield make
    for name in made:
        server.drop_database(name)


@pytest.fixture
def definitions(databases: Callable[[], Database]) -> Definitions:
    """Of a table with vectors."""
    source = databases()
    source.run("CREATE EXTENSION vector;\nCREATE TABLE docs (v vector(2))")
    return read_all(source)


@pytest.fixture
def target(databases: Callable[[], Database]) -> Database:
    return databases()


@contextmanager
def transaction(database: Database) -> Iterator[Cursor]:
    with closing(psycopg2.connect(database.dsn)) as connection:
        with connection.cursor() as cursor:
            apply_session_settings(cursor, 10)
            yield cursor
        connection.commit()


def create(cursor: Cursor, definitions: Definitions, scratch: str) -> tuple[str, ...]:
    """The part of a restore that makes the extension and the table."""
    new = [NewTable(each, "public", each.name) for each in definitions.tables.values()]
    recreation = Recreation(new, {}, definitions.dependencies, scratch)
    recreation.create(cursor)
    note_extensions(cursor, scratch, recreation.extensions_made)
    return recreation.extensions_made


@pytest.fixture
def of_a_failed_run(target: Database, definitions: Definitions) -> Database:
    """The target after the run A made its things and committed them, and ended there."""
    with transaction(target) as cursor:
        assert create(cursor, definitions, A) == ("vector",)
    return target


def extensions(database: Database) -> list[str]:
    found = database.ask("SELECT extname FROM pg_extension WHERE extname <> 'plpgsql' ORDER BY 1")
    return [name for (name,) in found]


def scratch_schemas(database: Database) -> list[str]:
    found = database.ask(
        "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'vector_restore_%%' ORDER BY 1"
    )
    return [name for (name,) in found]


def clean_up(database: Database) -> None:
    with transaction(database) as cursor:
        assert drop_scratch(cursor, A) == [A]
    assert scratch_schemas(database) == []


def test_the_extension_that_a_failed_run_made_goes_with_its_schema(
    of_a_failed_run: Database,
) -> None:
    clean_up(of_a_failed_run)
    assert extensions(of_a_failed_run) == []


def test_an_extension_that_somebody_uses_meanwhile_stays_and_so_does_their_column(
    of_a_failed_run: Database,
) -> None:
    of_a_failed_run.run("CREATE TABLE theirs (id int, v vector(2))")
    of_a_failed_run.run("INSERT INTO theirs VALUES (1, '[1,2]')")
    clean_up(of_a_failed_run)
    assert extensions(of_a_failed_run) == ["vector"]
    assert of_a_failed_run.ask("SELECT id, v::text FROM theirs") == [(1, "[1,2]")]


def test_an_extension_that_another_restore_uses_uncommitted_stays(
    of_a_failed_run: Database, definitions: Definitions
) -> None:
    """DROP EXTENSION doesn't see its table yet, whose column would then have no type."""
    with transaction(of_a_failed_run) as other:
        assert create(other, definitions, B) == ()
        clean_up(of_a_failed_run)
    assert extensions(of_a_failed_run) == ["vector"]
    assert of_a_failed_run.definition(f"{B}.docs").columns[0].type.text == "public.vector(2)"


def test_an_extension_that_was_there_before_the_failed_run_stays(
    target: Database, definitions: Definitions
) -> None:
    target.run("CREATE EXTENSION vector")
    with transaction(target) as cursor:
        assert create(cursor, definitions, A) == ()
    clean_up(target)
    assert extensions(target) == ["vector"]


def test_an_extension_that_was_made_anew_stays(of_a_failed_run: Database) -> None:
    of_a_failed_run.run("DROP EXTENSION vector CASCADE;\nCREATE EXTENSION vector")
    clean_up(of_a_failed_run)
    assert extensions(of_a_failed_run) == ["vector"]


@pytest.mark.parametrize("comment", ["mine", "[]", "3", '{"extensions_made": [["vector"]]}'])
def test_a_strangers_comment_drops_nothing(of_a_failed_run: Database, comment: str) -> None:
    of_a_failed_run.run([f"COMMENT ON SCHEMA {A} IS '{comment}'"])
    clean_up(of_a_failed_run)
    assert extensions(of_a_failed_run) == ["vector"]


def test_a_note_drops_no_extension_of_another_role(
    target: Database, server: EmbeddedServer
) -> None:
    """Else whoever may make a schema could have a superuser's restore drop any unused one."""
    role = f"schemer_{next(_NUMBERS)}"
    target.run("CREATE EXTENSION vector")
    target.run(f"CREATE ROLE {role};\nCREATE SCHEMA {A} AUTHORIZATION {role}")
    with transaction(target) as cursor:
        note_extensions(cursor, A, ["vector"])
    clean_up(target)
    target.run(f"DROP ROLE {role}")
    assert extensions(target) == ["vector"]


def test_extensions_that_need_each_other_all_go(target: Database) -> None:
    with transaction(target) as cursor:
        cursor.execute("CREATE EXTENSION vector SCHEMA public")
        cursor.execute(f"CREATE SCHEMA {A}")
        note_extensions(cursor, A, ["plpgsql", "vector"])
        # As an extension that requires plpgsql would.
        cursor.execute(
            "INSERT INTO pg_depend SELECT tableoid, oid, 0, tableoid,"
            " (SELECT oid FROM pg_extension WHERE extname = 'plpgsql'), 0, 'n'"
            " FROM pg_extension WHERE extname = 'vector'"
        )
    clean_up(target)
    assert target.ask("SELECT count(*) FROM pg_extension") == [(0,)]


def drop_dead(database: Database) -> list[str]:
    with transaction(database) as cursor:
        return drop_dead_scratch(cursor)


def test_the_extension_of_a_dead_run_goes_and_that_of_a_live_one_stays(
    target: Database, definitions: Definitions
) -> None:
    with closing(psycopg2.connect(target.dsn)) as coordinator:
        live_until_closed(coordinator)
        with transaction(target) as cursor:
            create(cursor, definitions, A)
        target.run(f"DROP TABLE {A}.docs")
        assert drop_dead(target) == []
        assert (scratch_schemas(target), extensions(target)) == ([A], ["vector"])
    # The server lets go of a closed session's lock in its own time.
    assert eventually(lambda: drop_dead(target), "the end of the session") == [A]
    assert (scratch_schemas(target), extensions(target)) == ([], [])


def test_the_extension_goes_too_if_another_dead_run_used_it(
    of_a_failed_run: Database, definitions: Definitions
) -> None:
    with transaction(of_a_failed_run) as cursor:
        assert create(cursor, definitions, B) == ()
    assert drop_dead(of_a_failed_run) == [A, B]
    assert extensions(of_a_failed_run) == []


def live_until_closed(coordinator: Connection) -> None:
    with coordinator.cursor() as cursor:
        hold_scratch(cursor, A)


def test_what_a_published_run_made_stays(target: Database, definitions: Definitions) -> None:
    new = [NewTable(each, "public", each.name) for each in definitions.tables.values()]
    recreation = Recreation(new, {}, definitions.dependencies, A)
    with transaction(target) as cursor:
        recreation.create(cursor)
        note_extensions(cursor, A, recreation.extensions_made)
    with transaction(target) as cursor:
        recreation.publish(cursor)
    target.run("DROP TABLE docs")
    with transaction(target) as cursor:
        assert drop_scratch(cursor, A) == []
    assert extensions(target) == ["vector"]
