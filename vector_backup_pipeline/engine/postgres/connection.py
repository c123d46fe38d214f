"""Connections to a server, and the conversion of its errors.

A connection can be ended from any thread, whatever it waits for (`abandon`), and its statements can
be canceled (`cancel_statements`). Every error of psycopg2 becomes one of ours (`database_errors`).
"""

import contextlib
import os
import socket
import threading
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import psycopg2
from psycopg2 import errorcodes
from psycopg2.extensions import ISOLATION_LEVEL_READ_COMMITTED, make_dsn
from psycopg2.extensions import connection as PsycopgConnection
from psycopg2.extensions import cursor as PsycopgCursor
from psycopg2.sql import Composable, Composed, Identifier, Literal

from vector_backup_pipeline.engine import cancellation, errors
from vector_backup_pipeline.engine.postgres import sql_ascii
from vector_backup_pipeline.engine.postgres.connection_strings import ConnectionSettings
from vector_backup_pipeline.engine.secrets import redact

__all__ = ["Connection", "ConnectionSettings", "connect", "database_errors"]

OLDEST_SERVER = 130000  # The first with pg_current_snapshot().

# A pooler accepts connections before it has a server connection for them. The first connection
# waits as long as PgBouncer does by default (query_wait_timeout), those of workers much less.
_PATIENCE_SECONDS = 120.0
WORKER_PATIENCE_SECONDS = 10.0
# For connections that cancel a statement, or query why another connection was lost.
SHORT_SECONDS = 3

# The coordinator is idle during the export: without keepalives, a firewall may drop the connection,
# and a dead server may block the run for hours.
_TRANSPORT = {
    "application_name": "vector_backup_pipeline",
    "connect_timeout": "10",
    "keepalives": "1",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
}
# libpq has no value that excludes PGSERVICE, so the variable itself is removed while a connection
# that must not use it is opened. The lock keeps others from connecting meanwhile.
_SERVICE_VARIABLE = "PGSERVICE"
_connecting = threading.Lock()

_BACKEND = """
    SELECT pid, backend_start
      FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid())
"""
# PostgreSQL 14 and newer, on most systems: a statement ends when its client has disconnected.
_CLIENT_CHECK = "SELECT pg_catalog.set_config('client_connection_check_interval', '1s', true)"
# PostgreSQL 14 and newer.
_ENDED_SESSIONS = """
    SELECT pg_catalog.pg_postmaster_start_time(), d.stats_reset,
           d.sessions_killed, d.conflicts, d.sessions_fatal
      FROM pg_catalog.pg_stat_database d
     WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
"""
# The reason that a change in each column indicates.
_ENDINGS = (
    "The server was restarted",
    "The server recovered from a crash of one of its processes; see its log",
    "An administrator command ended it, such as pg_terminate_backend",
    "The server is a standby, and a conflict with recovery ended it",
    "A fatal error ended it; see the server's log",
)
# Of exactly this session: behind a load balancer, another server may have one with the same PID.
_CANCEL = """
    SELECT pg_catalog.pg_cancel_backend(pid) FROM pg_catalog.pg_stat_get_activity(%s)
     WHERE backend_start OPERATOR(pg_catalog.=) %s
"""
# Data exceptions, constraint violations, unsupported features, invalid statements: a retry would
# fail in the same way.
_FINAL_CLASSES = {"0A", "22", "23", "42"}
# The server's messages in these classes quote no row, but their details may.
_CLASSES_WITHOUT_ROWS = {"23", "53", "54", "57", "58", "XX"}
# The server's files that allocate shared memory while it runs. The SQLSTATE is that of a full disk.
_SHARED_MEMORY_SOURCES = {"dsm.c", "dsm_impl.c"}


class LostConnection(psycopg2.OperationalError):
    """A connection that ended within a COPY, for which psycopg2's own error names none."""

    def __init__(self, connection: PsycopgConnection, error: psycopg2.Error) -> None:
        super().__init__(str(error))
        self.connection = connection


class EscapingCursor(PsycopgCursor):
    """The cursor of every connection of the engine.

    psycopg2 formats a statement with `%` when it has parameters, so a `%` in a composed name or
    literal is doubled then.
    """

    def execute(self, query: str | bytes | Composable, vars: Any = None) -> None:
        if vars is not None and isinstance(query, Composable):
            query = self._escaped(query)
        super().execute(query, vars)

    def copy_expert(self, sql: str | bytes | Composable, file: Any, size: int = 8192) -> None:
        try:
            super().copy_expert(sql, file, size)
        except psycopg2.Error as error:
            if error.cursor is None and self.connection.closed:
                raise LostConnection(self.connection, error) from error
            raise

    def _escaped(self, part: Composable) -> str:
        if isinstance(part, Composed):
            return "".join(map(self._escaped, part.seq))
        text: str = part.as_string(self)
        return text.replace("%", "%%") if isinstance(part, Identifier | Literal) else text


class Connection(PsycopgConnection):
    """`backend` is the pid and the start of its server process, None behind a pooler, which may
    change it. `ended_sessions` are counts of the server, if it keeps them. `notices_lost_client`:
    the server ends a statement whose client has gone."""

    backend: tuple[int, datetime] | None = None
    ended_sessions: tuple[datetime | int | None, ...] | None = None
    notices_lost_client = False
    is_abandoned = False

    def __init__(self, settings: ConnectionSettings, overrides: dict[str, str]) -> None:
        # The encoding as a start-up parameter, since poolers keep it apart for each client.
        parameters = {**_TRANSPORT, **settings.parameters, "client_encoding": "UTF8", **overrides}
        refusal: psycopg2.Error | UnicodeError
        try:
            super().__init__(make_dsn(**parameters))
        except (psycopg2.Error, UnicodeError) as error:
            refusal = error
        else:
            self.settings = settings
            self.cursor_factory = EscapingCursor
            # A duplicate, since the driver may close its own descriptor at any time.
            self._transport = socket.socket(fileno=os.dup(self.fileno()))
            self._transport_lock = threading.Lock()
            return
        failure = _refused(refusal, self, settings)
        super().close()  # Else the server would wait for the client.
        # Not inside `except`: the driver's error would stay on ours as its context.
        raise failure from _cause(refusal, settings.secrets)

    def shut_down(self) -> None:
        """Shut down the network connection, from any thread; a wait for the server then fails."""
        with self._transport_lock, contextlib.suppress(OSError):
            self._transport.shutdown(socket.SHUT_RDWR)

    def abandon(self) -> None:
        """Shut down, and have the server end the statement too."""
        self.is_abandoned = True
        self.shut_down()
        if not self.notices_lost_client:
            cancel_statements([self])

    def close(self) -> None:
        super().close()
        with self._transport_lock:
            self._transport.close()


def connect(settings: ConnectionSettings, patience: float = _PATIENCE_SECONDS) -> Connection:
    """Open a connection whose transactions begin with the first statement. A pooler gets `patience`
    seconds to find a server connection for it.

    Raises:
        ServiceUnavailable: no server was reached.
        DatabaseError: a server or pooler answered and refused.
    """
    cancellation.check()
    connection = _open(settings)
    try:
        if connection.server_version < OLDEST_SERVER:
            version = connection.server_version // 10000
            raise errors.DatabaseRefused(
                f"The server is PostgreSQL {version}; version 13 is the oldest that can be backed "
                "up."
            )
        cancellation.covers(connection)
        with (
            database_errors("use the connection", settings.secrets),
            _answering_within(connection, patience),
        ):
            pid, started_at = _ask(connection, _BACKEND) or (None, None)
            # A pooler invents a PID for each client. A PID alone may soon be reused.
            if pid == connection.info.backend_pid:
                connection.backend = (pid, started_at)
            connection.ended_sessions = _ask(connection, _ENDED_SESSIONS)
            connection.notices_lost_client = _ask(connection, _CLIENT_CHECK) is not None
    except BaseException:
        close_quietly(connection)
        raise
    return connection


def connect_to_write(
    settings: ConnectionSettings, patience: float = _PATIENCE_SECONDS
) -> Connection:
    """Open a connection whose transactions are READ COMMITTED and may write, whatever the role or
    the database has for a default. Raises as `connect`."""
    connection = connect(settings, patience)
    connection.set_session(
        isolation_level=ISOLATION_LEVEL_READ_COMMITTED, readonly=False, autocommit=False
    )
    return connection


def close_quietly(connection: Connection | None) -> None:
    """Close the connection in any state; the server rolls back an open transaction."""
    if connection is not None:
        with contextlib.suppress(psycopg2.Error):
            connection.close()


def end_quietly(connection: Connection) -> None:
    """Roll back and close. The rollback waits until the locks are released; closing does not."""
    with contextlib.suppress(psycopg2.Error):
        connection.rollback()
    close_quietly(connection)


def cancel_statements(connections: Iterable[Connection]) -> None:
    """Cancel the statements of the connections, from any thread, without waiting long.

    By a connection of its own: psycopg2's `cancel` stops the whole process while it waits for the
    server.
    """
    known = [connection for connection in connections if connection.backend is not None]
    if not known:
        return
    with (
        contextlib.suppress(psycopg2.Error, errors.BackupError),
        _short_connection(known[0].settings) as canceling,
        canceling.cursor() as cursor,
    ):
        for connection in known:
            cursor.execute(_CANCEL, connection.backend)


@contextlib.contextmanager
def database_errors(
    action: str, secrets: tuple[str, ...] = (), duplicate_advice: str | None = None
) -> Iterator[None]:
    """Convert psycopg2's errors to a BackupError: "Could not {action}: …".

    `duplicate_advice` says what to do next if a row violates a unique key.
    """
    try:
        yield
    except psycopg2.Error as error:
        cancellation.check()
        raise translated(error, action, secrets, duplicate_advice) from _cause(error, secrets)


def translated(
    error: psycopg2.Error,
    action: str,
    secrets: tuple[str, ...],
    duplicate_advice: str | None = None,
) -> errors.BackupError:
    """The BackupError for `error`, by SQLSTATE; without one, the connection was lost."""
    text = redact(first_line(error), secrets)
    if error.pgcode is None:
        return errors.DatabaseError(
            f"Could not {action}: the connection to the server was lost: {text}. "
            f"{redact(_why_lost(error), secrets)}. Run it again."
        )
    if error.pgcode == errorcodes.INSUFFICIENT_PRIVILEGE:
        return errors.PermissionDenied(
            f"Could not {action}: {text}. Grant the role of this connection what is missing, or "
            "connect as the owner."
        )
    if error.pgcode in (errorcodes.UNDEFINED_TABLE, errorcodes.INVALID_SCHEMA_NAME):
        return errors.TableNotFound(f"Could not {action}: {text}.")
    if error.pgcode == errorcodes.LOCK_NOT_AVAILABLE:
        return errors.LockTimeout(
            f"Could not {action}: {text}. Another session holds the table; find it in pg_locks, "
            "try again later, or raise VECTOR_BACKUP_LOCK_TIMEOUT."
        )
    if error.diag.source_file in _SHARED_MEMORY_SOURCES:
        return errors.DatabaseError(
            f"Could not {action}: {text} (SQLSTATE {error.pgcode}). Parallel index builds use "
            "the server's shared memory (/dev/shm), which is too small; its disk is not full. Run "
            "it again with --max-parallel-maintenance-workers 0, or give the server more shared "
            "memory (docker run --shm-size)."
        )
    # The row or object that the error refers to, if the server reports it.
    details = [(error.diag.message_detail or "").rstrip(".")]
    details += (error.diag.context or "").splitlines()[:1]
    detailed = text + redact("".join(f": {detail}" for detail in details if detail), secrets)
    if error.pgcode[:2] not in _CLASSES_WITHOUT_ROWS:
        text = "the server's message is not kept, since it may quote a row"
    kind = errors.DatabaseRefused if error.pgcode[:2] in _FINAL_CLASSES else errors.DatabaseError
    advice = duplicate_advice if error.pgcode == errorcodes.UNIQUE_VIOLATION else None
    converted = kind(f"Could not {action}: {detailed} (SQLSTATE {error.pgcode}).", advice)
    converted.without_rows = kind(f"Could not {action}: {text} (SQLSTATE {error.pgcode}).", advice)
    return converted


def _refused(
    error: psycopg2.Error | UnicodeError, failed: PsycopgConnection, settings: ConnectionSettings
) -> errors.BackupError:
    """The BackupError for a failed login. libpq gives no SQLSTATE, and the message is localized.

    But it keeps the socket of a server that has answered (fe-connect.c, `error_return`), and knows
    whether that asked for a password.
    """
    text = redact(first_line(error), settings.secrets)
    if failed.info.socket == -1:
        return errors.ServiceUnavailable(
            f"No database server was reached: {text}. "
            "Check host and port, and that the server is running."
        )
    # A wrong password must not be retried, since the account might be locked.
    kind = errors.DatabaseRefused if failed.info.used_password else errors.DatabaseError
    return kind(
        f"The database server refused the connection: {text}. "
        "Check user, password and database name, and the server's pg_hba.conf."
    )


def _why_lost(error: psycopg2.Error) -> str:
    """Why the server ended a session.

    A server that ends a session says why, unless it is just then blocked in sending rows
    (PostgreSQL, ProcessClientWriteInterrupt). So a new connection compares the server's own counts
    of ended sessions with those at the beginning of the lost one.
    """
    lost = error.connection if isinstance(error, LostConnection) else None
    if lost is None and error.cursor is not None:
        lost = error.cursor.connection
    if not isinstance(lost, Connection) or lost.is_abandoned:
        return "See the server's log"
    try:
        with _short_connection(lost.settings) as connection:
            now = _ask(connection, _ENDED_SESSIONS)
    except (psycopg2.Error, errors.BackupError):
        return "The server cannot be reached now"
    if lost.ended_sessions is None or now is None:
        return "See the server's log"
    for reason, earlier, later in zip(_ENDINGS, lost.ended_sessions, now, strict=True):
        if earlier != later:
            return reason
    return "The server has ended no session: check the network, poolers and proxies in between"


def _open(settings: ConnectionSettings, **overrides: str) -> Connection:
    with _connecting:
        hidden = os.environ.pop(_SERVICE_VARIABLE, None) if settings.stands_alone else None
        try:
            opened = Connection(settings, overrides)
            if opened.info.parameter_status("server_encoding") == sql_ascii.ENCODING:
                # Any other client encoding fails for bytes that are invalid in it.
                opened.close()
                sql_ascii.register_codec()
                encoding = {"client_encoding": sql_ascii.ENCODING}
                opened = Connection(settings, {**overrides, **encoding})
        finally:
            if hidden is not None:
                os.environ[_SERVICE_VARIABLE] = hidden
    return opened


@contextlib.contextmanager
def _short_connection(settings: ConnectionSettings) -> Iterator[Connection]:
    """A connection in autocommit mode with short timeouts."""
    connection = _open(settings, connect_timeout=str(SHORT_SECONDS))
    try:
        connection.autocommit = True
        with _answering_within(connection, SHORT_SECONDS):
            yield connection
    finally:
        connection.close()


@contextlib.contextmanager
def _answering_within(connection: Connection, seconds: float) -> Iterator[None]:
    """End the connection if the block takes longer."""
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        connection.shut_down()

    timer = threading.Timer(seconds, expire)
    timer.daemon = True
    timer.start()
    try:
        yield
    except psycopg2.Error as error:
        if expired.is_set():
            raise errors.DatabaseError(
                f"A connection was accepted, but ran no statement within {seconds:g} s. A pooler "
                "in between has no server connection free (PgBouncer: default_pool_size, "
                "max_db_connections). Raise its limit, or use fewer connections: --workers 1."
            ) from error
        raise
    finally:
        timer.cancel()
        timer.join()


def _ask(connection: Connection, query: str) -> tuple[Any, ...] | None:
    """The query's row, None if this server does not support it or the role may not run it."""
    try:
        with connection.cursor() as cursor:
            cursor.execute(query)
            return cursor.fetchone()
    except psycopg2.Error as error:
        if error.pgcode is None:
            raise
        return None
    finally:
        if not connection.closed:
            connection.rollback()


def _cause(error: Exception, secrets: tuple[str, ...]) -> Exception | None:
    """`error` as the cause of a BackupError; None if its text would show a secret."""
    # A UnicodeError contains the complete text as an attribute.
    shows_it = isinstance(error, UnicodeError) or redact(str(error), secrets) != str(error)
    return None if shows_it else error


def first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
