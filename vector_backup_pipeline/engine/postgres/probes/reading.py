"""One read-only transaction whose statements are bounded in time and whose failures are told."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping

import psycopg2
from psycopg2.errors import QueryCanceled
from psycopg2.extensions import ISOLATION_LEVEL_REPEATABLE_READ
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Composable, Identifier, Literal

from vector_backup_pipeline.engine.cancellation import check
from vector_backup_pipeline.engine.postgres.definitions.reading import Row, rows
from vector_backup_pipeline.engine.postgres.session import apply_session_settings

_NO_SETTINGS: Mapping[str, str] = {}
OUT_OF_TIME = "the time for it ran out"


class NotMeasured(Exception):
    """Why there is no measurement, as the note of a result says it."""


class ProbeReader:
    """Asks the target, all in one snapshot. Made by `probe_reader`."""

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor

    def ask(
        self, query: Composable, until: float, settings: Mapping[str, str] = _NO_SETTINGS
    ) -> list[Row]:
        """The rows of `query`, with the planner's `settings` for it alone.

        `until` is a reading of the monotonic clock.

        Raises:
            NotMeasured: it failed, or there is no time left; others can still be asked.
        """
        left = until - time.monotonic()
        if left <= 0:
            raise NotMeasured(OUT_OF_TIME)
        all_settings = {**settings, "statement_timeout": f"{math.ceil(left * 1000)}ms"}
        with _told(until):
            return self._run(query, all_settings)

    def _run(self, query: Composable, settings: Mapping[str, str]) -> list[Row]:
        # It only reads, so going back in any case loses nothing and takes the settings away.
        self._cursor.execute("SAVEPOINT probe")
        try:
            self._cursor.execute(SQL("; ").join(_set_local(*item) for item in settings.items()))
            return rows(self._cursor, query)
        finally:
            with contextlib.suppress(psycopg2.OperationalError, psycopg2.InterfaceError):
                self._cursor.execute("ROLLBACK TO SAVEPOINT probe; RELEASE SAVEPOINT probe")


@contextlib.contextmanager
def probe_reader(connection: Connection, until: float) -> Iterator[ProbeReader]:
    """Begin the transaction on a fresh `connection`; rolled back at the end.

    Raises:
        NotMeasured: the server refuses, or is gone.
    """
    try:
        with _told(until):
            connection.set_session(
                isolation_level=ISOLATION_LEVEL_REPEATABLE_READ, readonly=True, autocommit=False
            )
            cursor = connection.cursor()
            apply_session_settings(cursor, lock_timeout=until - time.monotonic())
            # An exact search reads the whole table; the server's own workers may help.
            cursor.execute("SET LOCAL max_parallel_workers_per_gather TO DEFAULT")
        yield ProbeReader(cursor)
    finally:
        with contextlib.suppress(psycopg2.Error):
            connection.rollback()


@contextlib.contextmanager
def _told(until: float) -> Iterator[None]:
    try:
        yield
    except psycopg2.Error as error:
        check()
        # By the clock: the message is in the server's language, and others may cancel too.
        if isinstance(error, QueryCanceled) and time.monotonic() >= until:
            raise NotMeasured(OUT_OF_TIME) from error
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise NotMeasured(lines[0].rstrip(".")) from error


def _set_local(name: str, value: str) -> Composable:
    return SQL("SET LOCAL {} = {}").format(Identifier(name), Literal(value))
