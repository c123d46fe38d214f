"""A restore that fails or dies leaves the target as it was, and takes nothing from others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import count

import psycopg2
import pytest
from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.embedded import EmbeddedServer
from vector_backup_pipeline.engine.postgres.recreation import NewTable, Recreation
from vector_backup_pipeline.engine.postgres.scratch import (
    drop_dead_scratch,
    drop_scratch,
    hold_scratch,
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


def create(database: Database, definitions: Definitions, scratch: str) -> None:
    """The part of a restore that makes the tables, committed."""
    new = [NewTable(each, "public", each.name) for each in definitions.tables.values()]
    with transaction(database) as cursor:
        Recreation(new, {}, definitions.dependencies, scratch).create(cursor)


def extensions(database: Database) -> list[str]:
    found = database.ask("SELECT extname FROM pg_extension WHERE extname <> 'plpgsql' ORDER BY 1")
    return [name for (name,) in found]


def scratch_schemas(database: Database) -> list[str]:
    found = database.ask(
        "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'vector_restore_%%' ORDER BY 1"
    )
    return [name for (name,) in found]


def drop_dead(database: Database) -> list[str]:
    with transaction(database) as cursor:
        return drop_dead_scratch(cursor)


def test_a_failed_run_s_schema_goes_and_the_extension_stays(
    target: Database, definitions: Definitions
) -> None:
    target.run("CREATE EXTENSION vector")
    create(target, definitions, A)

    with transaction(target) as cursor:
        assert drop_scratch(cursor, A) == [A]

    assert scratch_schemas(target) == []
    assert extensions(target) == ["vector"]


def test_the_schemas_of_dead_runs_go_and_that_of_a_live_one_stays(
    target: Database, definitions: Definitions
) -> None:
    target.run("CREATE EXTENSION vector")
    with closing(psycopg2.connect(target.dsn)) as coordinator:
        with coordinator.cursor() as cursor:
            hold_scratch(cursor, A)
        create(target, definitions, A)
        create(target, definitions, B)
        assert drop_dead(target) == [B]
        assert scratch_schemas(target) == [A]
    # The server releases a closed session's lock in its own time.
    assert eventually(lambda: drop_dead(target), "the end of the session") == [A]
    assert (scratch_schemas(target), extensions(target)) == ([], ["vector"])


def test_an_extension_to_create_is_never_committed_before_the_rows(
    target: Database, definitions: Definitions
) -> None:
    new = [NewTable(each, "public", each.name) for each in definitions.tables.values()]
    recreation = Recreation(new, {}, definitions.dependencies, A)
    with transaction(target) as cursor:
        assert recreation.missing_extensions(cursor) == ["vector"]
        assert not recreation.can_be_created_elsewhere(cursor)
    target.run("CREATE EXTENSION vector")
    with transaction(target) as cursor:
        assert recreation.missing_extensions(cursor) == []
        assert recreation.can_be_created_elsewhere(cursor)
