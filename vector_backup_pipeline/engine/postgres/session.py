"""The settings of a dump's transactions, all `SET LOCAL` so that a pooled session stays clean."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Composed, Identifier, Literal

from vector_backup_pipeline.engine.postgres.server_connection import ServerConnection

# name -> (value, reason). The oldest server that knows a setting stands in `_SINCE`.
_SETTINGS: dict[str, str] = {
    # A policy that would hide rows makes an error, not a silent gap.
    "row_security": "off",
    # Nothing in the session's path can stand in for a name; definitions print qualified.
    "search_path": "",
    # Every value reads back as what it was, on any server.
    "datestyle": "ISO, MDY",
    "timezone": "UTC",
    "intervalstyle": "postgres",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "xmloption": "content",
    "quote_all_identifiers": "off",
    # And every statement and value is read as it is meant, whatever the role or database has set.
    "standard_conforming_strings": "on",
    "array_nulls": "on",
    "default_table_access_method": "heap",
    # A long export is not a mistake, nor is a coordinator that waits for it.
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "transaction_timeout": "0",
    # Ranges are this tool's own parallelism; a plan that adds workers or compiles only costs.
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
    "synchronize_seqscans": "off",
}
_TIME_LIMITS = (
    "statement_timeout",
    "idle_in_transaction_session_timeout",
    "transaction_timeout",
)
_SINCE = {"transaction_timeout": 170000}
# A statement ends when its client has gone, also one that waits for a lock.
_CLIENT_CHECK = ("client_connection_check_interval", "1s")


def apply_session_settings(cursor: Cursor, lock_timeout: float) -> None:
    """Set what a dump needs until this transaction ends; takes no snapshot.

    `lock_timeout` in seconds.
    """
    version = cursor.connection.server_version
    settings = {name: v for name, v in _SETTINGS.items() if version >= _SINCE.get(name, 0)}
    settings |= _limits(cursor, lock_timeout)
    cursor.execute(SQL("; ").join(_set_local(*item) for item in settings.items()))


def allow_writes(cursor: Cursor) -> None:
    """Let this transaction write, whatever the role or the database has for a default. Fails on a
    standby, and after the first query."""
    cursor.execute(_set_local("transaction_read_only", "off"))


def apply_time_limits(cursor: Cursor, lock_timeout: float) -> None:
    """Of the settings of a dump those alone that say how long something may take."""
    version = cursor.connection.server_version
    limits = {name: "0" for name in _TIME_LIMITS if version >= _SINCE.get(name, 0)}
    limits |= _limits(cursor, lock_timeout)
    cursor.execute(SQL("; ").join(_set_local(*item) for item in limits.items()))


def apply_maintenance_settings(cursor: Cursor, memory: str | None, workers: int | None) -> None:
    """What building an index may use, until this transaction ends; None leaves the server's own."""
    wanted = {"maintenance_work_mem": memory, "max_parallel_maintenance_workers": workers}
    for name, value in wanted.items():
        if value is not None:
            cursor.execute(_set_local(name, str(value)))


@contextlib.contextmanager
def own_search_path(cursor: Cursor) -> Iterator[None]:
    """The session's own search_path in the block, then the empty one.

    For statements that run expressions or triggers of users' tables, which were written for it.
    They qualify every name. After an error the caller rolls back, which resets it too.
    """
    cursor.execute("SET LOCAL search_path TO DEFAULT")
    yield
    cursor.execute(_set_local("search_path", ""))


def apply_statement_syntax(cursor: Cursor) -> None:
    """Have the server split the statements that follow as this tool does.

    Loading rows runs expressions of the backup's tables, and those may have called set_config().
    """
    encoding = cursor.connection.encoding
    cursor.execute(
        SQL("; ").join(
            _set_local(*item)
            for item in (("standard_conforming_strings", "on"), ("client_encoding", encoding))
        )
    )


def defer_constraints(cursor: Cursor) -> None:
    """Let those that may be deferred be violated until they are checked."""
    cursor.execute("SET CONSTRAINTS ALL DEFERRED")


def check_deferred_constraints(cursor: Cursor) -> None:
    """Check now what would otherwise fail in COMMIT; fires deferred triggers."""
    with own_search_path(cursor):
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")


def _limits(cursor: Cursor, lock_timeout: float) -> dict[str, str]:
    limits = {"lock_timeout": _milliseconds(lock_timeout)}
    connection = cursor.connection
    if isinstance(connection, ServerConnection) and connection.notices_its_end:
        limits[_CLIENT_CHECK[0]] = _CLIENT_CHECK[1]
    return limits


def _milliseconds(seconds: float) -> str:
    return f"{max(1, round(seconds * 1000))}ms"


def _set_local(name: str, value: str) -> Composed:
    # set_config() would do the same, but as a SELECT it would fix the transaction's snapshot.
    return SQL("SET LOCAL {} = {}").format(Identifier(name), Literal(value))
