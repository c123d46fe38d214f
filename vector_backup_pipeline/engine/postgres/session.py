"""Settings of transactions, all with `SET LOCAL`, so that a pooled session keeps its own."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg2
from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Composable, Composed, Identifier, Literal

from vector_backup_pipeline.engine.postgres.connection import Connection

# Disabled: an export may take long, and the coordinator waits for it.
_TIMEOUTS = ("statement_timeout", "idle_in_transaction_session_timeout")
_SETTINGS = {
    # A policy that would hide rows causes an error instead of missing rows.
    "row_security": "off",
    # No object on the search path can shadow a name; definitions are printed qualified.
    "search_path": "",
    # Every value can be read back unchanged on any server.
    "datestyle": "ISO, MDY",
    "timezone": "UTC",
    "intervalstyle": "postgres",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "xmloption": "content",
    "quote_all_identifiers": "off",
    # Statements and values are parsed in the same way whatever the role or database has set.
    "standard_conforming_strings": "on",
    "array_nulls": "on",
    "default_table_access_method": "heap",
    # Ranges are read in parallel already; parallel plans and JIT would only add cost.
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
    "synchronize_seqscans": "off",
}
_PHYSICAL_ORDER = {
    "enable_indexscan": "off",
    "enable_indexonlyscan": "off",
    "enable_bitmapscan": "off",
    "enable_seqscan": "on",
    "enable_tidscan": "on",
}


def apply_session_settings(cursor: Cursor, lock_timeout: float) -> None:
    """Set what a dump needs until this transaction ends; takes no snapshot.

    `lock_timeout` in seconds.
    """
    set_local(cursor, _SETTINGS)
    apply_time_limits(cursor, lock_timeout)


def apply_time_limits(cursor: Cursor, lock_timeout: float) -> None:
    """Only those settings of a dump that are timeouts."""
    connection = cursor.connection
    limits = dict.fromkeys(_TIMEOUTS, "0")
    if connection.server_version >= 170000:
        limits["transaction_timeout"] = "0"
    limits["lock_timeout"] = f"{max(1, round(lock_timeout * 1000))}ms"
    if isinstance(connection, Connection) and connection.notices_lost_client:
        # A statement ends when its client has disconnected, even while it waits for a lock.
        limits["client_connection_check_interval"] = "1s"
    set_local(cursor, limits)


def allow_writes(cursor: Cursor) -> None:
    """Make this transaction READ WRITE whatever the default of the role or database. Fails on a
    standby, and after the first query."""
    set_local(cursor, {"transaction_read_only": "off"})


def apply_maintenance_settings(cursor: Cursor, memory: str | None, workers: int | None) -> None:
    """Set the resources for index builds in this transaction; None keeps the server's setting."""
    limits = {"maintenance_work_mem": memory, "max_parallel_maintenance_workers": workers}
    set_local(cursor, {name: str(value) for name, value in limits.items() if value is not None})


@contextlib.contextmanager
def own_search_path(cursor: Cursor) -> Iterator[None]:
    """The session's own search_path in the block, then the empty one.

    For statements that run expressions or triggers of users' tables, which were written for it.
    They qualify every name. After an error the caller rolls back, which resets it too.
    """
    cursor.execute("SET LOCAL search_path TO DEFAULT")
    yield
    set_local(cursor, {"search_path": ""})


@contextlib.contextmanager
def physical_order(cursor: Cursor) -> Iterator[None]:
    """Read tables in the order of their blocks in the block, not in an index's. After an error the
    caller rolls back, which resets it too."""
    set_local(cursor, _PHYSICAL_ORDER)
    yield
    cursor.execute("; ".join(f"SET LOCAL {name} TO DEFAULT" for name in _PHYSICAL_ORDER))


@contextlib.contextmanager
def savepoint(cursor: Cursor, *, keeps: bool = True) -> Iterator[None]:
    """Roll the block back if it fails, or in any case; the transaction continues afterwards.

    Always released, since a snapshot can't be exported from a subtransaction.
    """
    undo, release = "ROLLBACK TO SAVEPOINT attempt; ", "RELEASE SAVEPOINT attempt"
    cursor.execute("SAVEPOINT attempt")
    try:
        yield
    except BaseException:
        with contextlib.suppress(psycopg2.Error):  # The first error is the one to report.
            cursor.execute(undo + release)
        raise
    cursor.execute(release if keeps else undo + release)


def apply_statement_syntax(cursor: Cursor) -> None:
    """Have the server split the statements that follow as this tool does.

    Loading rows runs expressions of the backup's tables, and those may have called set_config().
    """
    encoding = cursor.connection.encoding
    set_local(cursor, {"standard_conforming_strings": "on", "client_encoding": encoding})


def check_deferred_constraints(cursor: Cursor) -> None:
    """Check now what would otherwise fail in COMMIT; fires deferred triggers."""
    with own_search_path(cursor):
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")


def fetch_rows(cursor: Cursor, query: str | Composable, parameters: Any = None) -> list[Any]:
    cursor.execute(query, parameters)
    return cursor.fetchall()


def fetch_value(cursor: Cursor, query: str | Composable, parameters: Any = None) -> Any:
    """The first value of the query's first row, None without a row."""
    cursor.execute(query, parameters)
    row = cursor.fetchone()
    return row[0] if row else None


def set_local(cursor: Cursor, settings: Mapping[str, str]) -> None:
    """With SET: set_config(), as a SELECT, would fix the transaction's snapshot."""
    if settings:
        statements: list[Composed] = [
            SQL("SET LOCAL {} = {}").format(Identifier(name), Literal(value))
            for name, value in settings.items()
        ]
        cursor.execute(SQL("; ").join(statements))
