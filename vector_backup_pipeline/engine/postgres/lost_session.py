"""Why the server ended a session, found out afterwards.

A server that ends a session says why, unless it is just then blocked in sending rows (PostgreSQL,
ProcessClientWriteInterrupt); and the driver passes on what it said only when nothing follows. So
a new connection asks for the server's own counts, and compares them with those at the beginning.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType

import psycopg2
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

# pg_stat_database counts ended sessions.
_COUNTED_SINCE = 140000
_MOST_LINES = 3
_COUNTS = """
    SELECT pg_catalog.pg_postmaster_start_time(), b.stats_reset,
           d.conflicts, d.sessions_killed, d.sessions_fatal
      FROM pg_catalog.pg_stat_database d, pg_catalog.pg_stat_bgwriter b
     WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
"""


@dataclass(frozen=True)
class SessionCounts:
    """How many of a database's sessions the server has ended. It resets counts after a crash."""

    started_at: datetime
    reset_at: datetime | None
    conflicts: int
    killed: int
    fatal: int


def read_counts(cursor: Cursor) -> SessionCounts | None:
    """None if the server does not count, or does not show it. Not for use within a transaction."""
    if cursor.connection.server_version < _COUNTED_SINCE:
        return None
    try:
        cursor.execute(_COUNTS)
        row = cursor.fetchone()
    except psycopg2.Error as error:
        if error.pgcode is None:
            raise
        return None
    return SessionCounts(*row) if row else None


def explain(before: SessionCounts | None, now: SessionCounts | None) -> str:
    """What became of a session that was lost between the two."""
    if before is None or now is None:
        return "The server accepts connections again; its log says why it ended this one"
    if now.started_at != before.started_at:
        return f"The server was restarted at {now.started_at:%Y-%m-%d %H:%M:%S %Z}"
    if now.reset_at != before.reset_at:
        return "The server recovered from a crash of one of its processes; see its log"
    if now.killed > before.killed:
        return (
            "An administrator command ended it, such as pg_terminate_backend (sessions_killed in "
            f"pg_stat_database rose from {before.killed} to {now.killed})"
        )
    if now.conflicts > before.conflicts:
        return (
            "The server is a standby, and a conflict with recovery ended it (conflicts in "
            f"pg_stat_database rose from {before.conflicts} to {now.conflicts})"
        )
    if now.fatal > before.fatal:
        return (
            "A fatal error ended it (sessions_fatal in pg_stat_database rose from "
            f"{before.fatal} to {now.fatal}); see the server's log"
        )
    return (
        "The server runs and counts no session that it ended: look at the network, and at poolers "
        "and proxies in between"
    )


class LostInCopy(psycopg2.OperationalError):
    """psycopg2 names no cursor, and no reason, for a connection that ends between two rows."""

    def __init__(self, connection: Connection, error: psycopg2.Error) -> None:
        super().__init__(str(error))
        self.connection = connection


@contextlib.contextmanager
def naming_the_connection(connection: Connection) -> Iterator[None]:
    try:
        yield
    except psycopg2.Error as error:
        if error.cursor is None and connection.closed:
            raise LostInCopy(connection, error) from error
        raise


def connection_of(error: psycopg2.Error) -> Connection | None:
    if isinstance(error, LostInCopy):
        return error.connection
    return error.cursor.connection if error.cursor is not None else None


def last_words(error: psycopg2.Error) -> str:
    """What the server and libpq said before the connection was closed."""
    connection = connection_of(error)
    said = (connection.info.error_message if connection is not None else None) or str(error)
    # libpq indents its guesses.
    lines = [line.rstrip(".") for line in said.splitlines() if line and not line[0].isspace()]
    return "; ".join(lines[:_MOST_LINES]) or type(error).__name__


def keep_stderr_clean() -> None:
    """Let the driver keep to itself what it can't raise.

    When two errors end a COPY, psycopg2 2.9 tries to decode the second with the first one pending,
    prints the SystemError that Python makes of it, and raises the second.
    """
    if sys.excepthook is not _excepthook:
        global _next_hook
        _next_hook, sys.excepthook = sys.excepthook, _excepthook


_next_hook = sys.excepthook


def _excepthook(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if not (isinstance(error, SystemError) and isinstance(error.__cause__, psycopg2.Error)):
        _next_hook(kind, error, traceback)
