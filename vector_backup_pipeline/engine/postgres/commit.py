"""Committing, and learning how a commit ended whose answer was lost."""

from __future__ import annotations

import time
from typing import Literal

import psycopg2

from vector_backup_pipeline.engine.errors import BackupError, DatabaseError
from vector_backup_pipeline.engine.postgres.connection import (
    Connection,
    ConnectionSettings,
    close_quietly,
    connect,
)
from vector_backup_pipeline.engine.postgres.server import ServerIdentity, identify_server

# A server that restarts in the middle of a COMMIT is back in seconds, or it is not a question for
# this run any more.
_ASK_TIMES = 10
_ASK_EVERY_SECONDS = 3.0


class CommitUnknown(DatabaseError):
    """The connection was lost while committing, and no server could say how it ended."""


def commit_or_learn(
    connection: Connection,
    settings: ConnectionSettings,
    server: ServerIdentity,
    if_unknown: str,
) -> None:
    """Commit; when the answer is lost, ask the server on a new connection how it ended.

    Raises:
        CommitUnknown: nobody can say; `if_unknown` is its message.
        psycopg2.Error: it was rolled back.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_current_xact_id_if_assigned()::text")
        (transaction_id,) = cursor.fetchone() or (None,)
    try:
        connection.commit()
    except psycopg2.Error as error:
        if error.pgcode is not None and not connection.closed:
            raise  # The server answered: it rolled back.
        close_quietly(connection)
        status = _outcome(settings, server, transaction_id)
        if status == "aborted":
            raise
        if status == "unknown":
            raise CommitUnknown(if_unknown) from error


def _outcome(
    settings: ConnectionSettings, server: ServerIdentity, transaction_id: str | None
) -> Literal["committed", "aborted", "unknown"]:
    """Ask the server how the transaction ended, for as long as a restart takes."""
    if transaction_id is None:
        return "aborted"  # It had changed nothing, so there is nothing to keep.
    for attempt in range(_ASK_TIMES):
        if attempt:
            time.sleep(_ASK_EVERY_SECONDS)
        try:
            status = _ask_status(settings, server, transaction_id)
        except (BackupError, psycopg2.Error):
            continue  # Not reachable yet; the last attempt leaves it unknown.
        if status in ("committed", "aborted"):
            return "committed" if status == "committed" else "aborted"
    return "unknown"


def _ask_status(
    settings: ConnectionSettings, server: ServerIdentity, transaction_id: str
) -> str | None:
    connection = connect(settings)
    try:
        with connection.cursor() as cursor:
            if not identify_server(cursor).continues(server):
                return None
            cursor.execute("SELECT pg_xact_status(%s::xid8)", (transaction_id,))
            (status,) = cursor.fetchone() or (None,)
            return None if status is None else str(status)
    finally:
        close_quietly(connection)
