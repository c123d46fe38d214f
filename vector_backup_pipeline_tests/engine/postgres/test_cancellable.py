"""Ending a statement from another thread."""

import threading
import time

import psycopg2.errors
import pytest

from vector_backup_pipeline.engine.background import Work
from vector_backup_pipeline.engine.errors import DatabaseError
from vector_backup_pipeline.engine.postgres import cancellable
from vector_backup_pipeline.engine.postgres.connection import Connection, connect
from vector_backup_pipeline_tests.faults.proxy import LOOPBACK, proxy
from vector_backup_pipeline_tests.faults.watching import settings_for
from vector_backup_pipeline_tests.fix_postgres import Database


def _sleep(connection: Connection) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(60)")


def test_other_threads_run_while_a_cancel_is_under_way(database: Database) -> None:
    database.run("ALTER ROLE postgres PASSWORD 'p'")
    # Of this process: what passes the cancel on has to run while the cancel waits for it.
    with proxy(database.server.port) as between:
        url = f"postgresql://postgres:p@{LOOPBACK}:{between.port}/{database.name}"
        connection = connect(settings_for(url))
        sleeping = Work(lambda: _sleep(connection), "test")
        sleeping.start()
        while not database.ask_one(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        ):
            time.sleep(0.01)
        connection.cancel()
        with pytest.raises(psycopg2.errors.QueryCanceled):
            sleeping.outcome()
        connection.close()


def test_a_connection_that_is_closed_has_nothing_to_cancel(database: Database) -> None:
    connection = connect(settings_for(database.url))
    connection.close()
    with pytest.raises(psycopg2.InterfaceError):
        connection.cancel()


def test_a_libpq_whose_functions_are_hidden_cancels_all_the_same(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancellable, "_LIBPQ", None)
    connection = connect(settings_for(database.url))
    sleeping = Work(lambda: _sleep(connection), "test")
    sleeping.start()
    while not sleeping.wait(0.05):
        connection.cancel()
    with pytest.raises(psycopg2.errors.QueryCanceled):
        sleeping.outcome()
    connection.close()


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


def test_without_a_thread_to_be_had_it_cancels_in_its_callers(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    connection = connect(settings_for(database.url))
    sleeping = Work(lambda: _sleep(connection), "test")
    sleeping.start()
    monkeypatch.setattr(threading.Thread, "start", refuse)
    while not sleeping.wait(0.05):
        connection.cancel()
    with pytest.raises(psycopg2.errors.QueryCanceled):
        sleeping.outcome()
    connection.close()
