"""A restore that fails or dies leaves no staging schema, and takes nothing from others."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg2
import pytest
from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.postgres.staging import (
    create_staging,
    drop_dead_staging,
    hold_staging,
    staging_name,
)
from vector_backup_pipeline_tests.fix_dagster import eventually
from vector_backup_pipeline_tests.fix_postgres import Database
from vector_backup_pipeline_tests.fix_restore import staging_schemas

A, B = staging_name("aaaa"), staging_name("bbbb")
_OF_A_USER = [f"{A}_notes", "vector_restore_notes"]


@contextmanager
def transaction(database: Database, url: str | None = None) -> Iterator[Cursor]:
    with database.session(url) as connection:
        with connection.cursor() as cursor:
            yield cursor
        connection.commit()


def drop_dead(database: Database, url: str | None = None) -> list[str]:
    with transaction(database, url) as cursor:
        return drop_dead_staging(cursor)


@pytest.fixture
def staged(any_database: Database) -> Database:
    """With the schemas of two runs, one of which has two, and a user's of similar names."""
    with transaction(any_database) as cursor:
        for name in (A, A + "_2", B):
            create_staging(cursor, name)
            cursor.execute(f"CREATE TABLE {name}.docs (v public.vector(2))")
        for name in _OF_A_USER:
            cursor.execute(f"CREATE SCHEMA {name}")
    return any_database


def test_the_schemas_of_dead_runs_are_dropped_and_those_of_a_live_one_stay(
    staged: Database,
) -> None:
    with closing(psycopg2.connect(staged.url)) as coordinator:
        with coordinator.cursor() as cursor:
            hold_staging(cursor, A)
        assert drop_dead(staged) == [B]
    # The server releases a closed session's lock in its own time.
    assert eventually(lambda: drop_dead(staged), "the end of the session") == [A, A + "_2"]
    assert sorted(staging_schemas(staged)) == _OF_A_USER


def test_another_roles_schema_is_left_for_its_next_run(staged: Database) -> None:
    url = staged.create_role("drops_nothing")

    assert drop_dead(staged, url) == []
    assert len(staging_schemas(staged)) == 5
    staged.run("DROP OWNED BY drops_nothing; DROP ROLE drops_nothing")
