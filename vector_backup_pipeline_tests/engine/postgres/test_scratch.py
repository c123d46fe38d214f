"""A restore that fails or dies leaves the target as it was, and takes nothing from others."""

from __future__ import annotations

from contextlib import closing

import psycopg2
import pytest

from vector_backup_pipeline.engine.postgres.recreation import NewTable, Recreation
from vector_backup_pipeline.engine.postgres.scratch import (
    drop_dead_scratch,
    drop_scratch,
    hold_scratch,
    scratch_name,
)
from vector_backup_pipeline.engine.table_definition import Definitions
from vector_backup_pipeline_tests.fix_dagster import eventually
from vector_backup_pipeline_tests.fix_definitions import read_all, step
from vector_backup_pipeline_tests.fix_postgres import Database

A, B = scratch_name("aaaa"), scratch_name("bbbb")


@pytest.fixture
def definitions(source: Database) -> Definitions:
    """Of a table with vectors."""
    source.run("CREATE EXTENSION vector; CREATE TABLE docs (v vector(2))")
    return read_all(source)


def create(database: Database, definitions: Definitions, scratch: str) -> None:
    """The part of a restore that makes the tables, committed."""
    new = [NewTable(each, "public", each.name) for each in definitions.tables.values()]
    with step(database) as cursor:
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
    with step(database) as cursor:
        return drop_dead_scratch(cursor)


def test_a_failed_run_s_schema_goes_and_the_extension_stays(
    target: Database, definitions: Definitions
) -> None:
    target.run("CREATE EXTENSION vector")
    create(target, definitions, A)

    with step(target) as cursor:
        assert drop_scratch(cursor, A) == [A]

    assert scratch_schemas(target) == []
    assert extensions(target) == ["vector"]


def test_the_schemas_of_dead_runs_go_and_that_of_a_live_one_stays(
    target: Database, definitions: Definitions
) -> None:
    target.run("CREATE EXTENSION vector")
    with closing(psycopg2.connect(target.url)) as coordinator:
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
    with step(target) as cursor:
        assert recreation.missing_dependencies(cursor) == ["extension vector"]
    target.run("CREATE EXTENSION vector")
    with step(target) as cursor:
        assert recreation.missing_dependencies(cursor) == []
