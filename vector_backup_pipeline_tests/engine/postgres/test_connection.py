"""Connections that other threads close; the server's errors."""

import contextlib
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import psycopg2
import psycopg2.errors
import pytest

from vector_backup_pipeline.engine.postgres import connection as connection_module
from vector_backup_pipeline.engine.postgres.connection import (
    Connection,
    cancel_statements,
    connect,
    translated,
)
from vector_backup_pipeline.engine.postgres.session import apply_session_settings
from vector_backup_pipeline_tests.faults.proxy import proxy
from vector_backup_pipeline_tests.faults.watching import (
    wait_until,
    wait_until_nothing_is_open,
)
from vector_backup_pipeline_tests.fix_postgres import Database, settings_for

# The limit for ending a canceled run.
_SECONDS = 5
_SLEEP = "SELECT pg_sleep(60)"


class _Statement:
    """A statement in a separate thread."""

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

    def has_ended(self) -> bool:
        self._thread.join(_SECONDS)
        return not self._thread.is_alive()


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    with contextlib.closing(connect(settings_for(database.url))) as opened:
        yield opened


@pytest.mark.parametrize("is_noticed", [True, False])
@pytest.mark.parametrize("statement", [_SLEEP, "LOCK TABLE public.held"])
def test_an_abandoned_connection_ends_here_and_on_the_server(
    database: Database, connection: Connection, statement: str, is_noticed: bool
) -> None:
    assert connection.notices_lost_client
    # As on a server too old for it.
    connection.notices_lost_client = is_noticed
    database.run("CREATE TABLE held ()")
    with database.session() as other, other.cursor() as cursor:
        cursor.execute("LOCK TABLE public.held")
        running = _Statement(connection, statement, database)
        began = time.monotonic()
        connection.abandon()
        assert running.has_ended()
        wait_until_nothing_is_open(database)
        assert time.monotonic() - began < _SECONDS
    assert running.error is not None


def test_an_abandoned_connection_ends_where_no_other_can_be_made(database: Database) -> None:
    with (
        proxy(database.server.port) as network,
        contextlib.closing(connect(settings_for(network.url(database)))) as connection,
    ):
        network.stop_listening()
        running = _Statement(connection, _SLEEP, database)
        connection.abandon()
        assert running.has_ended()
        wait_until_nothing_is_open(database)


def test_a_statement_is_canceled_and_its_connection_stays(
    database: Database, connection: Connection
) -> None:
    running = _Statement(connection, _SLEEP, database)
    cancel_statements([connection])
    assert running.has_ended()
    assert isinstance(running.error, psycopg2.errors.QueryCanceled)
    connection.rollback()
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)


def test_a_cancel_without_effect_blocks_no_one(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pooler accepts the second connection, and runs nothing on it."""
    monkeypatch.setattr(connection_module, "SHORT_SECONDS", 1)
    with (
        proxy(database.server.port, pool_size=1) as network,
        contextlib.closing(connect(settings_for(network.url(database)))) as connection,
    ):
        running = _Statement(connection, _SLEEP, database)
        began = time.monotonic()
        cancel_statements([connection])
        assert time.monotonic() - began < _SECONDS
        connection.abandon()
        assert running.has_ended()


def test_a_connection_that_is_closed_has_nothing_to_end(connection: Connection) -> None:
    connection.close()
    connection.abandon()
    cancel_statements([connection])


@pytest.mark.parametrize(("source", "is_shared_memory"), [("dsm_impl.c", True), ("md.c", False)])
def test_a_lack_of_shared_memory_is_distinguished_from_a_full_disk(
    source: str, *, is_shared_memory: bool
) -> None:
    class NoSpace(psycopg2.errors.DiskFull):
        pgcode = "53100"
        diag = SimpleNamespace(  # type: ignore[assignment]
            source_file=source, message_detail=None, context=None
        )

    error = translated(NoSpace("could not resize: No space left on device"), "build", ())

    assert "No space left on device (SQLSTATE 53100)" in error.message
    assert ("--max-parallel-maintenance-workers 0" in error.message) is is_shared_memory
