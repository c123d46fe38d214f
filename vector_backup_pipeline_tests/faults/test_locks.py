"""Locks that other sessions hold or wait for: bounded waits, complete backups, no lost rows."""

import os
import signal
import threading
import time

import pytest
from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.postgres import ranges, snapshot
from vector_backup_pipeline.engine.postgres.session import apply_session_settings
from vector_backup_pipeline_tests.faults.watching import (
    COLLECTIONS,
    EMBEDDINGS,
    JOIN_SECONDS,
    count,
    error_type,
    holding,
    in_background,
    interrupted,
    wait_for_a_waiting_lock,
    wait_until_nothing_is_open,
)
from vector_backup_pipeline_tests.fix_backup import LANGCHAIN, BackupMaker, FinishedBackup
from vector_backup_pipeline_tests.fix_postgres import Database, settings_for


@pytest.fixture
def hurried(backup: BackupMaker) -> BackupMaker:
    backup.lock_timeout = 0.2
    return backup


def _assert_complete_but_lock_timeout(made: FinishedBackup, database: Database) -> None:
    assert error_type(made.error) == "LOCK_TIMEOUT"
    assert made.manifest.complete
    assert made.file(EMBEDDINGS).rows == 58
    assert not made.result.truncate_performed
    wait_until_nothing_is_open(database)


def test_a_table_that_stays_locked_fails_alone(langchain: Database, hurried: BackupMaker) -> None:
    with holding(langchain, "LOCK TABLE langchain_pg_collection"):
        made = hurried(langchain.url)

    assert error_type(made.error) == "LOCK_TIMEOUT"
    assert not made.manifest.complete
    assert not made.result.tables_backed_up[COLLECTIONS].success
    assert made.file(EMBEDDINGS).rows == 58
    wait_until_nothing_is_open(langchain)


@pytest.mark.parametrize(
    ("statement", "truncate"),
    [
        ("INSERT INTO langchain_pg_embedding (id) VALUES ('open')", "none"),
        ("LOCK TABLE langchain_pg_embedding IN SHARE ROW EXCLUSIVE MODE", "none"),
        # A reader blocks the TRUNCATE.
        ("SELECT count(*) FROM langchain_pg_embedding", "not_truncated"),
    ],
)
def test_another_session_that_does_not_end_keeps_the_table_from_being_truncated(
    langchain: Database, hurried: BackupMaker, statement: str, truncate: str
) -> None:
    with holding(langchain, statement):
        made = hurried(langchain.url, truncate_vector_tables=True)

    _assert_complete_but_lock_timeout(made, langchain)
    assert made.manifest.truncate == truncate
    assert count(langchain) == 58


def test_a_refused_writers_lock_keeps_no_writer_of_any_table_waiting(
    langchain: Database, hurried: BackupMaker
) -> None:
    hurried.between["truncate"] = lambda: langchain.run(
        "SET lock_timeout = '100ms';"
        "INSERT INTO langchain_pg_embedding (id) VALUES ('later');"
        "INSERT INTO langchain_pg_collection (name) VALUES ('later')"
    )
    with holding(langchain, "INSERT INTO langchain_pg_embedding (id) VALUES ('open')") as cursor:
        made = hurried(langchain.url, truncate_vector_tables=True, truncate_tables=LANGCHAIN)
        cursor.connection.commit()

    _assert_complete_but_lock_timeout(made, langchain)
    assert count(langchain) == 60
    assert count(langchain, COLLECTIONS) == 5


def test_a_queued_alter_neither_stops_the_backup_nor_is_stopped(
    langchain: Database, backup: BackupMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    langchain.run(
        "INSERT INTO langchain_pg_embedding (id, document)"
        " SELECT 'more-' || i, repeat(md5(i::text), 20) FROM generate_series(1, 2000) i"
    )
    monkeypatch.setattr(ranges, "_RANGE_BYTES", 1 << 16)
    joined: list[object] = []

    def alter() -> None:
        langchain.run("ALTER TABLE langchain_pg_embedding ADD COLUMN added int")

    def queue_and_join(*arguments: object) -> object:
        if not joined:
            altering.start()
            wait_for_a_waiting_lock(langchain)
        joined.append(join_snapshot(*arguments))  # type: ignore[arg-type]
        return joined[-1]

    altering = threading.Thread(target=alter, daemon=True)
    join_snapshot = snapshot._join_snapshot
    monkeypatch.setattr(snapshot, "_join_snapshot", queue_and_join)
    backup.lock_timeout = 15
    made = backup(langchain.url)
    altering.join(JOIN_SECONDS)
    assert not altering.is_alive()

    assert joined == [False, False]
    assert made.result.duration < backup.lock_timeout, "no worker has waited for the ALTER"
    assert made.error is None
    assert made.file(EMBEDDINGS).rows == 2058
    assert "added" not in made.file(EMBEDDINGS).digest.columns
    assert langchain.ask_one("SELECT count(added) FROM langchain_pg_embedding") == 0


def _just_before_locking(monkeypatch: pytest.MonkeyPatch, database: Database, sql: str) -> None:
    done: list[bool] = []

    def change_first(cursor: Cursor, lock_timeout: float) -> None:
        if not done:
            done.append(True)
            database.run(sql)
        apply_session_settings(cursor, lock_timeout)

    monkeypatch.setattr(snapshot, "apply_session_settings", change_first)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ("DROP TABLE langchain_pg_embedding", "TABLE_NOT_FOUND"),
        (
            "DROP TABLE langchain_pg_embedding; CREATE TABLE langchain_pg_embedding (id text)",
            "DATABASE_ERROR",
        ),
        ("ALTER TABLE langchain_pg_embedding RENAME TO elsewhere", "TABLE_NOT_FOUND"),
    ],
)
def test_a_table_that_changes_while_it_is_being_locked_is_not_taken_for_another(
    langchain: Database,
    backup: BackupMaker,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
    error: str,
) -> None:
    _just_before_locking(monkeypatch, langchain, change)

    made = backup(langchain.url, truncate_vector_tables=True)

    assert error_type(made.error) == error
    assert not made.manifest.complete
    assert not made.result.truncate_performed
    assert made.file(COLLECTIONS).rows == 4


def test_a_partition_attached_after_the_lock_is_found_out(
    database: Database, backup: BackupMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.run("CREATE TABLE parts (id int) PARTITION BY RANGE (id)")
    database.run("CREATE TABLE one PARTITION OF parts FOR VALUES FROM (0) TO (10)")
    database.run("CREATE TABLE two (id int); INSERT INTO two VALUES (11)")
    lock_tables = snapshot._lock_tables

    def attach_after(*arguments: object) -> object:
        locked = lock_tables(*arguments)  # type: ignore[arg-type]
        database.run("ALTER TABLE parts ATTACH PARTITION two FOR VALUES FROM (10) TO (20)")
        return locked

    monkeypatch.setattr(snapshot, "_lock_tables", attach_after)
    made = backup(database.url, tables=("parts",), truncate_tables=("parts",))

    assert error_type(made.error) == "DATABASE_ERROR"
    assert "new partition" in str(made.error)


def test_a_run_that_waits_for_a_lock_can_be_cancelled(
    langchain: Database, backup: BackupMaker
) -> None:
    backup.lock_timeout = 60
    run = backup.run()
    run.resolve()

    def interrupt() -> None:
        wait_for_a_waiting_lock(langchain)
        os.kill(os.getpid(), signal.SIGINT)

    started = time.monotonic()
    with holding(langchain, "LOCK TABLE langchain_pg_collection"), in_background(interrupt):
        with interrupted():
            run.pin(lambda: settings_for(langchain.url))
        run.close()

    assert time.monotonic() - started < 30
    wait_until_nothing_is_open(langchain)
