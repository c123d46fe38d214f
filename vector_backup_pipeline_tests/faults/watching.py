"""Conditions and helpers of the fault tests."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.backup.run import BackupRun
from vector_backup_pipeline.engine.cancellation import Cancellation, listening
from vector_backup_pipeline.engine.errors import BackupError, RunCancelled
from vector_backup_pipeline_tests.fix_backup import LANGCHAIN
from vector_backup_pipeline_tests.fix_postgres import Database, settings_for

EMBEDDINGS = "langchain_pg_embedding"
COLLECTIONS = "langchain_pg_collection"
_PATIENCE_SECONDS = 20.0
# A few MB of embeddings more.
MORE_ROWS = """
    INSERT INTO langchain_pg_embedding (id, embedding, document)
        SELECT 'more-' || i, '[1,2,3]', repeat(md5(i::text), 40) FROM generate_series(1, 2500) i
"""
# Longer than the lock timeout of the tests' own sessions.
JOIN_SECONDS = 90.0


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "what the test waits for did not come"
        time.sleep(0.01)


def count(database: Database, table: str = EMBEDDINGS) -> int:
    return int(database.ask_one(f"SELECT count(*) FROM {table}"))  # noqa: S608 - a test's own name


def ids(database: Database) -> set[str]:
    return {id_ for (id_,) in database.ask("SELECT id FROM langchain_pg_embedding")}


def ids_in(path: Path) -> list[str]:
    """The first column of a file of langchain_pg_embedding whose documents are single lines."""
    return [line.partition(",")[0] for line in path.read_text().splitlines()[1:]]


@contextmanager
def holding(database: Database, statement: str) -> Iterator[Cursor]:
    """Another session with an open transaction."""
    with database.session() as session, session.cursor() as cursor:
        cursor.execute(statement)
        yield cursor


def meeting(runs: int) -> Callable[[], None]:
    """A step at which `runs` wait for each other."""
    together = threading.Barrier(runs, timeout=20)

    def meet() -> None:
        together.wait()

    return meet


def sessions(database: Database) -> int:
    """The number of the pipeline's connections to the server."""
    return int(
        database.ask_one(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name = 'vector_backup_pipeline'"
        )
    )


def wait_until_nothing_is_open(database: Database) -> None:
    wait_until(lambda: sessions(database) == 0)


def wait_for_a_waiting_lock(database: Database) -> None:
    wait_until(
        lambda: bool(
            database.ask_one(
                "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
                " WHERE NOT granted AND datname = current_database()"
            )
        )
    )


@contextmanager
def in_background(action: Callable[[], Any]) -> Iterator[threading.Thread]:
    """Run `action` in a thread during the block; raises its error at the end."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            action()
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        thread.join(JOIN_SECONDS)
    assert not thread.is_alive(), "what runs in the background does not end"
    if errors:
        raise errors[0]


def pinned_and_exported(run: BackupRun, url: str) -> str:
    """Run the steps before the truncate; returns the run's timestamp."""
    stamp = run.resolve()
    run.pin(lambda: settings_for(url))
    for table in run.request.tables or LANGCHAIN:
        run.export(table, lambda _: None)
    assert stamp is not None
    return stamp


def all_that_it_tells(error: BaseException) -> str:
    """All texts that a log, an event store or a debugger could read from `error`."""
    seen: list[BaseException] = []
    queue: list[BaseException | None] = [error]
    while queue:
        linked = queue.pop()
        if linked is None or linked in seen:
            continue
        seen.append(linked)
        # The context too, though `raise … from None` keeps it out of tracebacks.
        queue += [linked.__cause__, linked.__context__]
    return "\n".join(f"{e}\n{e!r}\n{e.args!r}\n{vars(e)!r}" for e in seen)


@contextmanager
def interrupted(kind: type[BaseException] = KeyboardInterrupt) -> Iterator[Cancellation]:
    """The block receives a signal, which `listening` raises again for a handler that raises `kind`.
    The block itself may raise only RunCancelled."""
    with pytest.raises(kind) as raised, listening() as cancellation:
        yield cancellation
    hidden = raised.value.__context__
    if hidden is not None and not isinstance(hidden, RunCancelled):
        raise hidden


def error_type(error: BackupError | None) -> str | None:
    return error.error_type if error else None
