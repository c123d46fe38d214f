"""A connection that can be ended from any thread, and whose statements can be canceled."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import psycopg2
from psycopg2.extensions import connection
from psycopg2.extensions import connection as Connection

from vector_backup_pipeline.engine.errors import BackupError, DatabaseError
from vector_backup_pipeline.engine.postgres import sql_ascii
from vector_backup_pipeline.engine.postgres.connection_strings import ConnectionSettings
from vector_backup_pipeline.engine.postgres.escaping_cursor import EscapingCursor
from vector_backup_pipeline.engine.postgres.login import Refusal, begin_login, refusal_of
from vector_backup_pipeline.engine.postgres.lost_session import SessionCounts, keep_stderr_clean

# The coordinator sits idle in its transaction for as long as the export takes; a firewall would
# forget the connection, and a dead peer would hold the run for hours.
_TRANSPORT = {
    "connect_timeout": "10",
    "keepalives": "1",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
}
# As a start-up parameter, since poolers keep it apart from client to client.
_ALWAYS = {"client_encoding": "UTF8"}

# libpq has no value that shuts PGSERVICE out, so the variable itself goes while such a connection
# is made; the lock keeps others, who may want it, from connecting in that moment.
_SERVICE_VARIABLE = "PGSERVICE"
_connecting = threading.Lock()
SHORT_SECONDS = "3"
# Of this very session: behind a balancer another server may have one with the same pid.
_CANCEL = """
    SELECT pg_catalog.pg_cancel_backend(pid) FROM pg_catalog.pg_stat_get_activity(%s)
     WHERE backend_start OPERATOR(pg_catalog.=) %s
"""


@dataclass(frozen=True)
class Backend:
    """The server process of one session. A pid alone is soon another's."""

    pid: int
    started_at: datetime


class ServerConnection(connection):
    """`settings` and `counts` are of its beginning. `backend` is None behind a pooler, which may
    change it. `notices_its_end`: the server ends a statement whose client has gone."""

    settings: ConnectionSettings | None = None
    counts: SessionCounts | None = None
    backend: Backend | None = None
    notices_its_end = False
    is_abandoned = False
    _socket: weakref.finalize[Any, Any] | None = None

    @classmethod
    def open(cls, **keywords: Any) -> ServerConnection:
        """Connect as `psycopg2.connect` does."""
        # Not by an __init__: its frame would stay on the error of a connection that is refused,
        # and with it the connection, which the server would wait for.
        connect = partial(psycopg2.connect, connection_factory=cls, cursor_factory=EscapingCursor)
        opened: ServerConnection = connect(**keywords)
        if opened.info.parameter_status("server_encoding") == sql_ascii.ENCODING:
            # Any other client encoding refuses bytes that it does not know. As a start-up
            # parameter, since poolers keep it apart from client to client.
            opened.close()
            sql_ascii.register_codec()
            opened = connect(**{**keywords, "client_encoding": sql_ascii.ENCODING})
        # A duplicate, since the driver may close its own at any moment.
        opened._transport = socket.socket(fileno=os.dup(opened.fileno()))
        opened._transport_lock = threading.Lock()
        opened._socket = weakref.finalize(opened, opened._transport.close)
        return opened

    def abandon(self) -> None:
        """End it, from any thread: whoever waits for the server gets an error."""
        self.is_abandoned = True
        with self._transport_lock, contextlib.suppress(OSError):
            self._transport.shutdown(socket.SHUT_RDWR)
        if not self.notices_its_end:
            cancel_statements([self])

    def close(self) -> None:
        super().close()
        if self._socket is not None:
            with self._transport_lock:
                self._socket()

    _transport: socket.socket
    _transport_lock: threading.Lock


def open_connection(settings: ConnectionSettings, **overrides: str) -> ServerConnection:
    keep_stderr_clean()
    with _surroundings(settings):
        connection = ServerConnection.open(**(_parameters(settings) | overrides))
    connection.settings = settings
    return connection


def login_refusal(settings: ConnectionSettings) -> Refusal | None:
    """How the server refuses the login of `settings`; None if no server answers."""
    try:
        with _surroundings(settings):
            connection = begin_login(_parameters(settings))
    except (psycopg2.Error, UnicodeError):
        return None
    return refusal_of(connection)


def _parameters(settings: ConnectionSettings) -> dict[str, Any]:
    parameters = _TRANSPORT | dict(settings.parameters) | _ALWAYS
    return {"application_name": "vector_backup_pipeline"} | parameters


@contextlib.contextmanager
def answering_within(connection: Connection, seconds: float | None) -> Iterator[None]:
    """End the connection if the block takes longer."""
    if seconds is None:
        yield
        return
    # A duplicate: the timer may fire while the connection is being closed.
    with socket.socket(fileno=os.dup(connection.fileno())) as transport:
        watch = _Watch(transport)
        timer = threading.Timer(seconds, watch.end)
        timer.start()
        try:
            yield
        except (psycopg2.Error, BackupError) as error:
            if watch.has_ended:
                raise DatabaseError(
                    f"A connection was accepted, but ran no statement within {seconds:g} s. A "
                    "pooler in between has no server connection free (PgBouncer: "
                    "default_pool_size, max_db_connections). Raise its limit, or use fewer "
                    "connections: --workers 1."
                ) from error
            raise
        finally:
            timer.cancel()
            timer.join()


class _Watch:
    def __init__(self, transport: socket.socket) -> None:
        self._transport = transport
        self.has_ended = False

    def end(self) -> None:
        self.has_ended = True
        with contextlib.suppress(OSError):
            self._transport.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def _surroundings(settings: ConnectionSettings) -> Iterator[None]:
    """The environment as libpq may see it while it connects with `settings`."""
    with _connecting:
        hidden = os.environ.pop(_SERVICE_VARIABLE, None) if settings.stands_alone else None
        try:
            yield
        finally:
            if hidden is not None:
                os.environ[_SERVICE_VARIABLE] = hidden


def cancel_statements(connections: Iterable[Connection]) -> None:
    """Cancel what the connections do, from any thread and without waiting for long.

    By a connection of its own: psycopg2's `cancel` stops the whole process while it waits for the
    server.
    """
    of_server = [each for each in connections if isinstance(each, ServerConnection)]
    backends = [each.backend for each in of_server if each.backend is not None]
    settings = next((each.settings for each in of_server if each.settings is not None), None)
    if settings is None or not backends:
        return
    with contextlib.suppress(psycopg2.Error, UnicodeError, BackupError):
        connection = open_connection(settings, connect_timeout=SHORT_SECONDS)
        try:
            connection.autocommit = True
            with (
                answering_within(connection, float(SHORT_SECONDS)),
                connection.cursor() as cursor,
            ):
                for each in backends:
                    cursor.execute(_CANCEL, (each.pid, each.started_at))
        finally:
            connection.close()
