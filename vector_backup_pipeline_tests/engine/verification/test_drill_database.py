"""The temporary database of a drill, on servers with other settings."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.embedded import (
    THROWAWAY_SETTINGS,
    EmbeddedServer,
    start_embedded_server,
)
from vector_backup_pipeline.engine.errors import DatabaseError, InvalidParams
from vector_backup_pipeline.engine.postgres.connection import ConnectionSettings, connect
from vector_backup_pipeline.engine.postgres.drill_database import DrillServer, drill_database
from vector_backup_pipeline.engine.table_definition import Dependency
from vector_backup_pipeline_tests.fix_backup import BackupMaker
from vector_backup_pipeline_tests.fix_postgres import Database, settings_for
from vector_backup_pipeline_tests.fix_verify import verify_run

_ID = "0" * 32


@pytest.fixture
def latin_server() -> Iterator[EmbeddedServer]:
    """A server whose template0 has another encoding, with read-only transactions by default."""
    directory = Path(tempfile.mkdtemp(prefix="vbp-"))
    settings = {**THROWAWAY_SETTINGS, "default_transaction_read_only": True}
    with start_embedded_server(directory / "data", settings=settings) as server:
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
    settings = settings_for(url)
    return DrillServer(settings, is_throwaway=is_throwaway)


@contextlib.contextmanager
def drill_cursor(
    url: str, encoding: str = "UTF8", extensions: Sequence[Dependency] = ()
) -> Iterator[tuple[ConnectionSettings, Cursor]]:
    """Connected to the database of a drill, as a restore test is."""
    with (
        drill_database(of(url), _ID, (), encoding, extensions) as settings,
        closing(connect(settings)) as connection,
        connection.cursor() as cursor,
    ):
        yield settings, cursor


def test_the_database_is_utf8_on_a_server_of_another_encoding(latin_server: EmbeddedServer) -> None:
    with drill_cursor(latin_server.connection_string()) as (_, cursor):
        cursor.execute("SELECT '向量', current_setting('server_encoding')")
        assert cursor.fetchone() == ("向量", "UTF8")


def test_it_holds_any_bytes_for_a_set_of_a_sql_ascii_database(database: Database) -> None:
    with drill_cursor(database.url, "SQL_ASCII") as (_, cursor):
        cursor.execute(r"SELECT E'caf\351 \303\251'")
        assert cursor.fetchone() == ("caf\udce9 é",)


def test_names_that_postgresql_keeps_for_itself_are_no_roles_to_make(
    database: Database,
) -> None:
    roles = ["pg_of_another_version", "a drill's role"]

    with drill_database(of(database.url, is_throwaway=True), _ID, roles, "UTF8"):
        rows = database.ask(
            "SELECT rolname, rolcanlogin FROM pg_roles WHERE rolname = ANY(%s)", [roles]
        )
    database.run('DROP ROLE "a drill\'s role"')

    assert rows == [("a drill's role", False)]


_VECTOR = Dependency(kind="extension", name="vector", version="0.1", schema_name="ai")
_MAY_NOT = [
    "SELECT pg_read_file('PG_VERSION')",
    "SELECT pg_ls_dir('.')",
    "SELECT lo_import('/etc/passwd')",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "CREATE TABLE t (a text); COPY t FROM '/etc/passwd'",
    "SELECT set_config('role', 'postgres', false)",
    "SET SESSION AUTHORIZATION postgres",
    "CREATE ROLE another",
    "CREATE FUNCTION f() RETURNS int LANGUAGE c AS 'x'",
]


@pytest.mark.parametrize("tcp", [False, True], ids=["socket", "TCP, with a password"])
def test_where_ours_is_a_superuser_the_test_has_a_role_without_rights(
    database: Database, *, tcp: bool
) -> None:
    database.run("CREATE ROLE our_superuser SUPERUSER LOGIN PASSWORD 'pass word''1'")
    url = database.url_as("our_superuser") if tcp else database.url

    with drill_cursor(url, extensions=[_VECTOR]) as (settings, cursor):
        assert settings.parameters["password"] in settings.secrets
        cursor.connection.set_session(autocommit=True)
        for statement in _MAY_NOT:
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                cursor.execute(statement)
        # It can do what a restore needs.
        cursor.execute("CREATE SCHEMA s CREATE TABLE s.t (v ai.vector(3))")
        cursor.execute("CREATE TABLE ai.t (id int); CREATE TABLE public.t ()")
    database.run("DROP ROLE our_superuser")
    assert database.ask("SELECT FROM pg_roles WHERE rolname ~ '^vector_drill'") == []
    assert database.ask("SELECT FROM pg_database WHERE datname ~ '^vector_drill'") == []


def test_a_server_that_does_not_let_the_role_in_is_named(database: Database) -> None:
    rules = database.server.directory / "data" / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text("local all /^vector_drill_ reject\n" + before)
    database.run("SELECT pg_reload_conf()")
    try:
        with (
            pytest.raises(DatabaseError, match=r"own role log in.*pg_hba\.conf"),
            drill_database(of(database.url), _ID, (), "UTF8"),
        ):
            pass
    finally:
        rules.write_text(before)
        database.run("SELECT pg_reload_conf()")
    assert database.ask("SELECT FROM pg_roles WHERE rolname ~ '^vector_drill'") == []


def test_a_role_with_createdb_alone_is_used_as_it_is(database: Database) -> None:
    url = database.create_role("may_create")
    database.run("ALTER ROLE may_create CREATEDB")

    with drill_cursor(url, extensions=[_VECTOR]) as (_, cursor):
        cursor.execute("SELECT session_user, current_database()")
        assert cursor.fetchone() == ("may_create", "vector_drill_" + _ID)
    database.run("DROP OWNED BY may_create; DROP ROLE may_create")


@pytest.mark.parametrize("membership", ["pg_execute_server_program", "root_by_another_name"])
def test_a_role_that_may_start_programs_is_refused(database: Database, membership: str) -> None:
    database.run("CREATE ROLE root_by_another_name SUPERUSER")
    url = database.create_role("may_start")
    database.run(f"ALTER ROLE may_start CREATEDB; GRANT {membership} TO may_start")

    with pytest.raises(InvalidParams, match=membership), drill_database(of(url), _ID, (), "UTF8"):
        pass
    database.run("DROP OWNED BY may_start; DROP ROLE may_start, root_by_another_name")


def test_a_dead_tests_role_goes_with_its_database(database: Database) -> None:
    dead, without_database = ("vector_drill_" + digit * 32 for digit in "12")
    database.run(f"CREATE ROLE {dead} LOGIN; CREATE ROLE {without_database} LOGIN")
    database.run(f"CREATE DATABASE {dead} OWNER {dead}")

    with drill_database(of(database.url), _ID, (), "UTF8"):
        rows = database.ask("SELECT rolname FROM pg_roles WHERE rolname ~ '^vector_drill'")

    assert rows == [("vector_drill_" + _ID,)]


def test_an_expression_of_a_hostile_set_reads_no_file(
    database: Database, backup: BackupMaker
) -> None:
    """A check constraint is a statement that a backup writes, and calls what its role may call."""
    database.run("CREATE TABLE t (id int CHECK (length(pg_read_file('PG_VERSION')) > 0))")
    database.run("INSERT INTO t VALUES (1)")
    assert backup(database.url, tables=("t",)).error is None
    server = contextlib.nullcontext(of(database.url))
    run = verify_run(backup.root, lambda: server, drill=True)

    (key,) = run.find()
    verdict = run.verify(key)

    assert verdict is not None
    assert verdict.files_passed
    assert not verdict.passed
    assert "permission denied for function pg_read_file" in str(run.error)
    run.close()
