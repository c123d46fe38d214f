"""A run reads all tables in one snapshot, despite concurrent changes."""

import csv
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

import psycopg2
import pytest

from vector_backup_pipeline.engine.manifest import DataFile
from vector_backup_pipeline.engine.postgres.snapshot import PinnedSnapshot, pin_snapshot
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.storage.local_store import LocalStore
from vector_backup_pipeline.engine.table_export import export_table
from vector_backup_pipeline.parameters.backup import BackupRequest
from vector_backup_pipeline.parameters.types import ExportMethod
from vector_backup_pipeline_tests.faults.watching import in_background
from vector_backup_pipeline_tests.fix_backup import BackupMaker
from vector_backup_pipeline_tests.fix_postgres import Database, settings_for
from vector_backup_pipeline_tests.fix_rows import METHODS

pytestmark = pytest.mark.usefixtures("small_ranges")

ACCOUNTS = """
    CREATE TABLE a (id int PRIMARY KEY, balance int, filler text) WITH (fillfactor = 50);
    CREATE TABLE b (id int PRIMARY KEY, balance int, filler text) WITH (fillfactor = 50);
    INSERT INTO a SELECT i, 100, repeat('a', 50) FROM generate_series(1, 2000) i;
    INSERT INTO b SELECT i, 100, repeat('b', 50) FROM generate_series(1, 2000) i;
"""
TOTAL = 2 * 2000 * 100


@contextmanager
def pinned(
    database: Database, *tables: str, workers: int = 4, lock_timeout: float = 2
) -> Iterator[PinnedSnapshot]:
    settings = settings_for(database.url)
    with closing(
        pin_snapshot(settings, tables, (), workers=workers, lock_timeout=lock_timeout)
    ) as opened:
        yield opened


def export(
    opened: PinnedSnapshot, table: str, directory: Path, method: ExportMethod = "copy"
) -> DataFile:
    return export_table(
        opened,
        opened.tables[table],
        BackupDirectory(LocalStore(directory)),
        f"{table}.{method}.csv",
        BackupRequest(tables=(table,), truncate_tables=(), export_method=method, batch_size=100),
        lambda _: None,
    )


@contextmanager
def repeated(*works: Callable[[], None]) -> Iterator[None]:
    """Repeat each of `works` until the block ends, at least once before it starts."""
    stop = threading.Event()
    began = [threading.Event() for _ in works]

    def repeat(work: Callable[[], None], first_done: threading.Event) -> None:
        while not stop.is_set():
            work()
            first_done.set()

    with ExitStack() as stack:
        for work, first_done in zip(works, began, strict=True):
            stack.enter_context(in_background(partial(repeat, work, first_done)))
        stack.callback(stop.set)
        assert all(event.wait(20) for event in began)
        yield


@pytest.mark.parametrize("method", METHODS)
def test_tables_agree_while_others_write_and_vacuum(
    database: Database, backup: BackupMaker, method: ExportMethod
) -> None:
    database.run(ACCOUNTS)
    with ExitStack() as stack:
        writer, mover, sweeper = (stack.enter_context(database.session()) for _ in range(3))
        sweeper.autocommit = True

        def move() -> None:  # Transfers between the two tables, over all their rows.
            with mover, mover.cursor() as cursor:
                cursor.execute("UPDATE a SET balance = balance - 1 WHERE id % 7 = 0")
                cursor.execute("UPDATE b SET balance = balance + 1 WHERE id % 7 = 0")

        def replace() -> None:  # In both tables, by the same amount.
            with writer, writer.cursor() as cursor:
                for table in ("a", "b"):
                    cursor.execute(
                        f"""WITH gone AS (DELETE FROM {table} WHERE id % 7 > 0
                                AND id IN (SELECT min(id) FROM {table} WHERE id % 7 > 0)
                                RETURNING id, balance)
                            INSERT INTO {table} SELECT id + 7000, balance FROM gone"""  # noqa: S608
                    )

        def vacuum() -> None:
            with sweeper.cursor() as cursor:
                cursor.execute("VACUUM a, b")

        with repeated(move, replace, vacuum):
            made = [
                backup(database.url, tables=("a", "b"), workers=4, export_method=method)
                for _ in range(3)
            ]

    for finished in made:
        assert finished.error is None
        files = {table: finished.path(table).read_text() for table in ("a", "b")}
        rows = {table: list(csv.DictReader(file.splitlines())) for table, file in files.items()}
        ids = [[row["id"] for row in rows[table]] for table in rows]
        assert sum(int(row["balance"]) for table in rows.values() for row in table) == TOTAL
        assert len(ids[0]) == len(set(ids[0])) == 2000
        assert set(ids[0]) == set(ids[1])


def test_a_table_can_not_be_truncated_dropped_or_rewritten_under_a_run(
    database: Database, tmp_path: Path
) -> None:
    database.run(ACCOUNTS)
    with pinned(database, "a") as opened:
        for statement in ("TRUNCATE a", "DROP TABLE a", "VACUUM FULL a", "ALTER TABLE a ADD x int"):
            with database.session() as other, other.cursor() as cursor:
                other.autocommit = True
                cursor.execute("SET lock_timeout = '20ms'")
                with pytest.raises(psycopg2.errors.LockNotAvailable):
                    cursor.execute(statement)

        assert export(opened, "a", tmp_path).rows == 2000


def test_writers_and_readers_go_on_during_a_plain_backup(database: Database) -> None:
    database.run(ACCOUNTS)
    with pinned(database, "a", "b"):
        database.run("SET lock_timeout = '20ms'; UPDATE a SET balance = 1; DELETE FROM b")


def test_as_many_workers_come_as_the_largest_table_has_ranges(database: Database) -> None:
    database.run(ACCOUNTS)
    database.run("CREATE TABLE small (id int)")

    with pinned(database, "a", "small", workers=4) as opened:
        assert len(opened.workers) == 4
    with pinned(database, "a", "small", workers=2) as opened:
        assert len(opened.workers) == 2
    for tables, workers in ((("a",), 1), (("small",), 4)):
        with pinned(database, *tables, workers=workers) as opened:
            assert opened.streams() == [opened.coordinator]


def test_a_lost_worker_is_not_used_again_and_is_closed_with_the_others(database: Database) -> None:
    database.run(ACCOUNTS)
    with pinned(database, "a", "b", workers=2) as opened:
        lost, other = opened.workers
        database.run("SELECT pg_terminate_backend(%s, 5000)", [lost.info.backend_pid])
        with pytest.raises(psycopg2.OperationalError), lost.cursor() as cursor:
            cursor.execute("SELECT 1")
        assert opened.streams() == [other]
    # 2 is a lost connection whose resources are not freed.
    assert (lost.closed, other.closed) == (1, 1)


def test_no_connection_of_a_run_lets_a_policy_hide_rows_silently(database: Database) -> None:
    database.run(ACCOUNTS)
    database.run(f"ALTER DATABASE {database.name} SET row_security = on")

    with pinned(database, "a") as opened:
        for connection in (opened.coordinator, *opened.workers):
            with connection.cursor() as cursor:
                cursor.execute("SHOW row_security")
                assert cursor.fetchall() == [("off",)]


def test_nothing_of_a_runs_settings_outlives_its_transaction(database: Database) -> None:
    database.run("CREATE TABLE a (id int)")
    settings = "SELECT name, setting FROM pg_settings WHERE context = 'user' ORDER BY 1"
    with database.session() as fresh, fresh.cursor() as cursor:
        # As the server has it, and not as the tests' own sessions do.
        cursor.execute("SET client_encoding = 'UTF8'; SET lock_timeout = 0")
        cursor.execute(settings)
        usual = dict(cursor.fetchall())

    with pinned(database, "a") as opened:
        opened.coordinator.rollback()
        with opened.coordinator.cursor() as cursor:
            cursor.execute(settings)
            left = dict(cursor.fetchall())

    changed = {name for name in usual if left[name] != usual[name]}
    # What the connection itself was opened with.
    assert changed <= {"application_name", "transaction_isolation", "default_transaction_isolation"}
