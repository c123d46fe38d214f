"""COMMIT, and the outcome of a COMMIT during which the connection was lost."""

import contextlib
import time

import psycopg2

from vector_backup_pipeline.engine.errors import BackupError, DatabaseError
from vector_backup_pipeline.engine.postgres.connection import (
    Connection,
    ConnectionSettings,
    close_quietly,
    connect,
)
from vector_backup_pipeline.engine.postgres.server import ServerIdentity, identify_server
from vector_backup_pipeline.engine.postgres.session import fetch_value

# A server that restarts during a COMMIT is usually available again within half a minute; the run
# does not wait longer.
_ASK_TIMES = 10
_ASK_EVERY_SECONDS = 3.0


class CommitUnknown(DatabaseError):
    """The connection was lost during COMMIT, and the server could not report the outcome."""


def commit_or_learn(
    connection: Connection,
    settings: ConnectionSettings,
    server: ServerIdentity,
    if_unknown: str,
) -> None:
    """Commit. If the connection is lost, ask the server on a new connection for the outcome.

    Raises:
        CommitUnknown: the outcome is unknown; `if_unknown` is its message.
        psycopg2.Error: it was rolled back.
    """
    with connection.cursor() as cursor:
        transaction_id = fetch_value(cursor, "SELECT pg_current_xact_id_if_assigned()::text")
    try:
        connection.commit()
    except psycopg2.Error as error:
        if error.pgcode is not None and not connection.closed:
            raise  # The server answered: it rolled back.
        close_quietly(connection)
        # A transaction without an ID has changed nothing.
        status = "aborted" if transaction_id is None else _status(settings, server, transaction_id)
        if status == "aborted":
            raise
        if status != "committed":
            raise CommitUnknown(if_unknown) from error


def _status(settings: ConnectionSettings, server: ServerIdentity, transaction_id: str) -> str:
    """`committed`, `aborted` or `unknown`; retries long enough for a restart of the server."""
    for attempt in range(_ASK_TIMES):
        if attempt:
            time.sleep(_ASK_EVERY_SECONDS)
        with (
            contextlib.suppress(BackupError, psycopg2.Error),
            contextlib.closing(connect(settings)) as connection,
            connection.cursor() as cursor,
        ):
            if identify_server(cursor).continues(server):
                query = "SELECT pg_xact_status(%s::xid8)"
                status = fetch_value(cursor, query, (transaction_id,))
                if status in ("committed", "aborted"):
                    return str(status)
    return "unknown"
