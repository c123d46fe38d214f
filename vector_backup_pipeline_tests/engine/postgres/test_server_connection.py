"""Ending connections and their statements from other threads."""

import contextlib
import threading
import time
from collections.abc import Iterator

import psycopg2
import psycopg2.errors
import pytest

from vector_backup_pipeline.engine.errors import DatabaseError
from vector_backup_pipeline.engine.postgres import connection as connection_module
from vector_backup_pipeline.engine.postgres.connection import (
    Connection,
    cancel_statements,
    connect,
)
from vector_backup_pipeline.engine.postgres.session import apply_session_settings
from vector_backup_pipeline_tests.faults.proxy import LOOPBACK, proxy
from vector_backup_pipeline_tests.faults.watching import (
    settings_for,
    wait_until,
    wait_until_nothing_is_open,
)
from vector_backup_pipeline_tests.fix_postgres import Database

# What a canceled run promises.
_SECONDS = 5


class _Statement:
    """A statement in a thread of its own."""

    def __init__(self, connection: Connection, statement: str, database: Database) -> None:
        self._connection, self._statement = connection, statement
        self.error: psycopg2.Error | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name = 'vector_backup_pipeline' AND state = 'active'"
            " AND wait_event IS NOT NULL"
        )
        wait_until(lambda: database.ask_one(waiting) == 1)

    def _run(self) -> None:
        try:
            with self._connection.cursor() as cursor:
                apply_session_settings(cursor, 60)
                cursor.execute(self._statement)
        except psycopg2.Error as error:
            self.error = error

    def ended(self, seconds: float = _SECONDS) -> bool:
        self._thread.join(seconds)
        return not self._thread.is_alive()


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    opened = connect(settings_for(database.url))
    yield opened
    opened.close()


@contextlib.contextmanager
def _locked(database: Database) -> Iterator[None]:
    database.run("CREATE TABLE held ()")
    with database.session() as other, other.cursor() as cursor:
        cursor.execute("LOCK TABLE public.held")
        yield


@pytest.mark.parametrize("is_noticed", [True, False])
@pytest.mark.parametrize("statement", ["SELECT pg_sleep(60)", "LOCK TABLE public.held"])
def test_an_abandoned_connection_ends_here_and_on_the_server(
    database: Database, connection: Connection, statement: str, is_noticed: bool
) -> None:
    assert connection.notices_lost_client
    # As on a server that is too old for it.
    connection.notices_lost_client = is_noticed
    with _locked(database):
        running = _Statement(connection, statement, database)
        began = time.monotonic()
        connection.abandon()
        assert running.ended()
        wait_until_nothing_is_open(database)
        assert time.monotonic() - began < _SECONDS
    assert running.error is not None


def test_an_abandoned_connection_ends_where_no_other_can_be_made(database: Database) -> None:
    database.run("ALTER ROLE postgres PASSWORD 'p'")
    with proxy(database.server.port) as network:
        url = f"postgresql://postgres:p@{LOOPBACK}:{network.port}/{database.name}"
        connection = connect(settings_for(url))
        network.stop_listening()
        running = _Statement(connection, "SELECT pg_sleep(60)", database)
        connection.abandon()
        assert running.ended()
        wait_until_nothing_is_open(database)
        connection.close()


def test_a_statement_is_cancelled_and_its_connection_stays(
    database: Database, connection: Connection
) -> None:
    running = _Statement(connection, "SELECT pg_sleep(60)", database)
    cancel_statements([connection])
    assert running.ended()
    assert isinstance(running.error, psycopg2.errors.QueryCanceled)
    connection.rollback()
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)


def test_a_cancel_that_is_swallowed_holds_nobody_up(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pooler takes the second connection, and runs nothing on it."""
    monkeypatch.setattr(connection_module, "SHORT_SECONDS", 1)
    database.run("ALTER ROLE postgres PASSWORD 'p'")
    with proxy(database.server.port, pool_size=1) as network:
        url = f"postgresql://postgres:p@{LOOPBACK}:{network.port}/{database.name}"
        connection = connect(settings_for(url))
        running = _Statement(connection, "SELECT pg_sleep(60)", database)
        began = time.monotonic()
        cancel_statements([connection])
        assert time.monotonic() - began < _SECONDS
        connection.abandon()
        assert running.ended()
        connection.close()


def test_a_connection_that_is_closed_has_nothing_to_end(connection: Connection) -> None:
    connection.close()
    connection.abandon()
    cancel_statements([connection])


def test_a_refused_connection_is_gone_while_its_error_is_still_there(database: Database) -> None:
    database.run("DROP ROLE IF EXISTS refused")
    database.create_role("refused")
    without_password = database.server.connection_string(database.name, user="refused", tcp=True)
    with pytest.raises(DatabaseError, match="no password supplied") as refusal:
        connect(settings_for(without_password))

    assert refusal.value.__cause__ is not None
    # Else the server waits for the password: for a minute, and who drops the database for it.
    began = time.monotonic()
    database.server.drop_database(database.name)
    assert time.monotonic() - began < 20
    database.server.create_database(database.name)
