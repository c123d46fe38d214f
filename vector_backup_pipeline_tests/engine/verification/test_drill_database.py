"""The database of a drill, on servers that are set up unlike ours."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from vector_backup_pipeline.embedded import (
    EMBEDDED_VERSIONS,
    THROWAWAY_SETTINGS,
    EmbeddedServer,
    start_embedded_server,
)
from vector_backup_pipeline.engine.postgres.connection import ConnectionSettings, connect
from vector_backup_pipeline.engine.postgres.drill_database import DrillServer, drill_database
from vector_backup_pipeline.engine.secrets import SecretText
from vector_backup_pipeline_tests.fix_postgres import Database

_ID = "0" * 32


@pytest.fixture(params=EMBEDDED_VERSIONS)
def latin_server(request: pytest.FixtureRequest) -> Iterator[EmbeddedServer]:
    """A server whose template0 is of another encoding, and which lets nobody write by default."""
    directory = Path(tempfile.mkdtemp(prefix="vbp-"))
    settings = {**THROWAWAY_SETTINGS, "default_transaction_read_only": True}
    with start_embedded_server(directory / "data", request.param, settings=settings) as server:
        with closing(psycopg2.connect(server.connection_string())) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                for statement in (
                    "SET default_transaction_read_only = off",
                    "CREATE DATABASE latin TEMPLATE template0"
                    " ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'",
                    "ALTER DATABASE template0 RENAME TO unused",
                    "ALTER DATABASE latin RENAME TO template0",
                ):
                    cursor.execute(statement)
        yield server
    shutil.rmtree(directory)


def of(url: str, *, is_throwaway: bool = False) -> DrillServer:
    settings = ConnectionSettings.from_installation(SecretText(url), "the test")
    return DrillServer(settings, is_throwaway=is_throwaway)


def test_it_holds_utf8_on_a_server_of_another_encoding(latin_server: EmbeddedServer) -> None:
    with (
        drill_database(of(latin_server.connection_string()), _ID, (), "UTF8") as settings,
        closing(connect(settings)) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SELECT '向量'")
        assert cursor.fetchone() == ("向量",)
        cursor.execute("SHOW server_encoding")
        assert cursor.fetchone() == ("UTF8",)


def test_it_holds_any_bytes_for_a_set_of_a_sql_ascii_database(database: Database) -> None:
    with (
        drill_database(of(database.url), _ID, (), "SQL_ASCII") as settings,
        closing(connect(settings)) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(r"SELECT E'caf\351 \303\251'")
        assert cursor.fetchone() == ("caf\udce9 é",)


def test_a_role_that_only_reads_by_default_makes_it_too(any_database: Database) -> None:
    any_database.run(f"ALTER DATABASE {any_database.name} SET default_transaction_read_only = on")

    with (
        drill_database(of(any_database.url), _ID, (), "UTF8") as settings,
        closing(connect(settings)) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SELECT current_database()")
        assert cursor.fetchone() == (settings.parameters["dbname"],)
    assert any_database.ask("SELECT 1 FROM pg_database WHERE datname ~ '^vector_drill'") == []


def test_names_that_postgresql_keeps_for_itself_are_no_roles_to_make(
    any_database: Database,
) -> None:
    roles = ["pg_of_another_version", "a drill's role"]

    with drill_database(of(any_database.url, is_throwaway=True), _ID, roles, "UTF8"):
        found = any_database.ask(
            "SELECT rolname, rolcanlogin FROM pg_roles WHERE rolname = ANY(%s)", [roles]
        )
    any_database.run('DROP ROLE "a drill\'s role"')

    assert found == [("a drill's role", False)]
