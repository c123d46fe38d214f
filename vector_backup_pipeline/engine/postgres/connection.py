"""Connecting, and what a server's refusals mean."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import psycopg2
from psycopg2 import errorcodes
from psycopg2.extensions import ISOLATION_LEVEL_READ_COMMITTED
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine import cancellation
from vector_backup_pipeline.engine.errors import (
    BackupError,
    DatabaseError,
    DatabaseRefused,
    LockTimeout,
    PermissionDenied,
    ServiceUnavailable,
    TableNotFound,
)
from vector_backup_pipeline.engine.postgres.connection_strings import ConnectionSettings
from vector_backup_pipeline.engine.postgres.lost_session import (
    connection_of,
    explain,
    last_words,
    read_counts,
)
from vector_backup_pipeline.engine.postgres.server_connection import (
    SHORT_SECONDS,
    Backend,
    ServerConnection,
    answering_within,
    cancel_statements,
    login_refusal,
    open_connection,
)
from vector_backup_pipeline.engine.secrets import redact

__all__ = [
    "Connection",
    "ConnectionSettings",
    "abandon",
    "cancel_statements",
    "connect",
    "database_errors",
]

OLDEST_SERVER = 130000  # pg_current_snapshot() and what else the snapshot needs

# How long a pooler may take to find a server connection for one more worker.
WORKER_PATIENCE_SECONDS = 10.0
_BACKEND = """
    SELECT pid, backend_start
      FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid())
"""
# Data exceptions, violated constraints, unsupported features, statements that don't fit: asked
# again, the server says the same again.
_REFUSALS = {"0A", "22", "23", "42"}


def connect(settings: ConnectionSettings, patience: float | None = None) -> Connection:
    """Open a connection whose transactions begin with the first statement.

    A pooler accepts connections that it has no server for yet. With `patience`, it gets that many
    seconds to find one.

    Raises:
        ServiceUnavailable: no server was reached.
        DatabaseError: a server or pooler answered and refused.
    """
    cancellation.check()
    refusal: psycopg2.Error | UnicodeError
    try:
        connection = open_connection(settings)
    except (psycopg2.Error, UnicodeError) as error:
        refusal = error
    else:
        return _tried(connection, settings, patience)
    # Not inside `except`: the driver's error would stay on ours as its context.
    raise _refused(refusal, settings) from _cause(refusal, settings.secrets)


def connect_to_write(settings: ConnectionSettings, patience: float | None = None) -> Connection:
    """Open a connection whose transactions are READ COMMITTED and may write, whatever the role or
    the database has for a default.

    Raises:
        ServiceUnavailable, DatabaseError: as `connect`.
    """
    connection = connect(settings, patience)
    connection.set_session(
        isolation_level=ISOLATION_LEVEL_READ_COMMITTED, readonly=False, autocommit=False
    )
    return connection


def _tried(
    connection: ServerConnection, settings: ConnectionSettings, patience: float | None
) -> Connection:
    """The connection, after an empty transaction went through it."""
    try:
        if connection.server_version < OLDEST_SERVER:
            version = connection.server_version // 10000
            raise DatabaseError(
                f"The server is PostgreSQL {version}; version 13 is the oldest that can be backed "
                "up."
            )
        cancellation.covers(connection)
        connection.autocommit = True
        with (
            database_errors("use the connection", settings.secrets),
            answering_within(connection, patience),
            connection.cursor() as cursor,
        ):
            connection.counts = read_counts(cursor)
            connection.backend = _backend(cursor)
            connection.notices_its_end = _try_transaction(cursor, settings.secrets)
        connection.autocommit = False
    except BaseException:
        close_quietly(connection)
        raise
    return connection


def _backend(cursor: Cursor) -> Backend | None:
    cursor.execute(_BACKEND)
    row = cursor.fetchone()
    # A pooler makes up a pid for each client.
    is_known = row is not None and row[0] == cursor.connection.info.backend_pid
    return Backend(*row) if row is not None and is_known else None


def _try_transaction(cursor: Cursor, secrets: tuple[str, ...]) -> bool:
    """Whether the server can notice that its client has gone (from 14 on, on most systems)."""
    try:
        cursor.execute("BEGIN")
    except psycopg2.Error as error:
        if error.pgcode is not None:
            raise
        raise DatabaseRefused(
            "The connection was closed as soon as a transaction began "
            f"({redact(last_words(error), secrets)}). A pooler in statement mode (PgBouncer's "
            "pool_mode = statement) does that, and backups and restores need transactions. Connect "
            "to the server directly, or to a pool in transaction or session mode."
        ) from _cause(error, secrets)
    try:
        cursor.execute("SET LOCAL client_connection_check_interval = '1s'")
    except psycopg2.Error as error:
        if error.pgcode is None:
            raise
        return False
    finally:
        if not cursor.connection.closed:
            cursor.execute("ROLLBACK")
    return True


def close_quietly(connection: Connection | None) -> None:
    """Close, whatever state it is in; the server rolls back what was open."""
    if connection is not None:
        with contextlib.suppress(psycopg2.Error):
            connection.close()


def end_quietly(connection: Connection) -> None:
    """Roll back and close; its locks are gone then, which closing alone would not wait for."""
    with contextlib.suppress(psycopg2.Error):
        connection.rollback()
    close_quietly(connection)


def abandon(connections: Iterable[Connection]) -> None:
    """End connections, from any thread: whoever waits for the server gets an error."""
    for each in connections:
        if isinstance(each, ServerConnection):
            each.abandon()


@contextlib.contextmanager
def database_errors(action: str, secrets: tuple[str, ...] = ()) -> Iterator[None]:
    """Turn psycopg2's errors into ours: "Could not {action}: …"."""
    try:
        yield
    except psycopg2.Error as error:
        cancellation.check()
        raise translated(error, action, secrets) from _cause(error, secrets)


def translated(error: psycopg2.Error, action: str, secrets: tuple[str, ...]) -> BackupError:
    """What `error` means, by SQLSTATE; without one the connection itself is gone."""
    if error.pgcode is None:
        reason = redact(f"{last_words(error)}. {_explanation(error)}", secrets)
        return DatabaseError(
            f"Could not {action}: the connection to the server was lost: {reason}. Run it again."
        )
    text = redact(_first_line(error), secrets)
    if error.pgcode == errorcodes.INSUFFICIENT_PRIVILEGE:
        return PermissionDenied(f"Could not {action}: {text}. {_permission_advice(error)}")
    if error.pgcode in (errorcodes.UNDEFINED_TABLE, errorcodes.INVALID_SCHEMA_NAME):
        return TableNotFound(f"Could not {action}: {text}.")
    if error.pgcode == errorcodes.LOCK_NOT_AVAILABLE:
        return LockTimeout(
            f"Could not {action}: {text}. Another session holds the table; find it in pg_locks, "
            "try again later, or raise VECTOR_BACKUP_LOCK_TIMEOUT."
        )
    if error.diag.source_file in _SHARED_MEMORY_SOURCES:
        return DatabaseError(
            f"Could not {action}: {text} (SQLSTATE {error.pgcode}). Parallel index builds use "
            "the server's shared memory (/dev/shm), which is too small; its disk is not full. Run "
            "it again with --max-parallel-maintenance-workers 0, or give the server more shared "
            "memory (docker run --shm-size)."
        )
    text += _detail(error, secrets)
    kind = DatabaseRefused if error.pgcode[:2] in _REFUSALS else DatabaseError
    return kind(f"Could not {action}: {text} (SQLSTATE {error.pgcode}).")


# The server's files that allocate shared memory while it runs. The SQLSTATE is that of a full disk.
_SHARED_MEMORY_SOURCES = {"dsm.c", "dsm_impl.c"}
# The one that refuses a query which row security would filter (check_enable_rls). The SQLSTATE is
# that of a missing privilege.
_ROW_SECURITY_SOURCE = "rls.c"


def _detail(error: psycopg2.Error, secrets: tuple[str, ...]) -> str:
    """Which row or thing it was about, as far as the server says."""
    parts = []
    if error.diag.message_detail:
        parts.append(error.diag.message_detail.rstrip("."))
    parts += (error.diag.context or "").splitlines()[:1]
    return redact("".join(f": {part}" for part in parts), secrets)


def _permission_advice(error: psycopg2.Error) -> str:
    if error.diag.source_file == _ROW_SECURITY_SOURCE:
        return "Back up as the table's owner or as a role with BYPASSRLS."
    return "Grant the role of this connection what is missing."


def _explanation(error: psycopg2.Error) -> str:
    """What a new connection finds out about why this one was lost."""
    lost = connection_of(error)
    if not isinstance(lost, ServerConnection) or lost.settings is None or lost.is_abandoned:
        return "See the server's log"
    try:
        connection = open_connection(lost.settings, connect_timeout=SHORT_SECONDS)
    except (psycopg2.Error, UnicodeError) as refusal:
        return f"The server can't be reached now ({_first_line(refusal)})"
    try:
        connection.autocommit = True
        with (
            answering_within(connection, float(SHORT_SECONDS)),
            connection.cursor() as cursor,
        ):
            return explain(lost.counts, read_counts(cursor))
    except (psycopg2.Error, BackupError):
        return "See the server's log"
    finally:
        close_quietly(connection)


def _refused(error: psycopg2.Error | UnicodeError, settings: ConnectionSettings) -> BackupError:
    text = redact(_first_line(error), settings.secrets)
    refusal = login_refusal(settings)
    if refusal is None:
        return ServiceUnavailable(
            f"No database server was reached: {text}. "
            "Check host and port, and that the server is running."
        )
    kind = DatabaseRefused if refusal.is_final else DatabaseError
    return kind(
        f"The database server refused the connection: {text}. "
        "Check user, password and database name, and the server's pg_hba.conf."
    )


def _cause(error: Exception, secrets: tuple[str, ...]) -> Exception | None:
    """`error` as the cause to keep, unless its own text would show a secret."""
    # A UnicodeError carries the whole text along as an attribute.
    shows_it = isinstance(error, UnicodeError) or redact(str(error), secrets) != str(error)
    return None if shows_it else error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
