"""Which server a connection has landed on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg2
from psycopg2.extensions import cursor as Cursor


@dataclass(frozen=True)
class ServerIdentity:
    """What tells one server from another, and what a restore wants to know of it.

    `system_identifier` is None where the role may not read it, `timeline` on a replica.
    """

    version: str
    version_num: int
    encoding: str
    database: str
    started_at: datetime
    in_recovery: bool
    system_identifier: str | None
    timeline: int | None
    pgvector_version: str | None

    def is_same_process_as(self, other: ServerIdentity) -> bool:
        """Whether both are one running server: a replica shares its primary's identifier."""
        return (self.system_identifier, self.started_at, self.in_recovery, self.database) == (
            other.system_identifier,
            other.started_at,
            other.in_recovery,
            other.database,
        )

    def continues(self, earlier: ServerIdentity) -> bool:
        """Whether this is the primary that `earlier` was: it knows its commits."""
        if self.in_recovery:
            return False
        if self.system_identifier is None:
            # Nothing tells a restarted server from another one, but the very process is known.
            return self.is_same_process_as(earlier)
        return (self.system_identifier, self.timeline, self.database) == (
            earlier.system_identifier,
            earlier.timeline,
            earlier.database,
        )


_IDENTITY = """
    SELECT current_setting('server_version'), current_setting('server_version_num')::int,
           current_setting('server_encoding'), current_database(), pg_postmaster_start_time(),
           pg_is_in_recovery(),
           CASE WHEN NOT pg_is_in_recovery() THEN
               ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int END,
           (SELECT extversion FROM pg_extension WHERE extname = 'vector')
"""


def read_clock(cursor: Cursor) -> datetime:
    """The server's time now."""
    cursor.execute("SELECT clock_timestamp()")
    ((now,),) = cursor.fetchall()
    moment: datetime = now
    return moment


def identify_server(cursor: Cursor) -> ServerIdentity:
    cursor.execute(_IDENTITY)
    ((version, version_num, encoding, database, started_at, *rest),) = cursor.fetchall()
    in_recovery, timeline, pgvector = rest
    return ServerIdentity(
        version=version,
        version_num=version_num,
        encoding=encoding,
        database=database,
        started_at=started_at,
        in_recovery=in_recovery,
        system_identifier=_if_allowed(
            cursor, "SELECT system_identifier::text FROM pg_control_system()"
        ),
        timeline=timeline,
        pgvector_version=pgvector,
    )


def pgvector_to_come(cursor: Cursor) -> str | None:
    """The version that CREATE EXTENSION would make, None where there is none to make."""
    cursor.execute("SELECT default_version FROM pg_available_extensions WHERE name = 'vector'")
    row = cursor.fetchone()
    return str(row[0]) if row else None


def _if_allowed(cursor: Cursor, query: str) -> Any:
    """The query's value, None where a managed service has revoked the function."""
    cursor.execute("SAVEPOINT identity")
    try:
        cursor.execute(query)
        row = cursor.fetchone()
    except psycopg2.errors.InsufficientPrivilege:
        row = None
        cursor.execute("ROLLBACK TO SAVEPOINT identity")
    cursor.execute("RELEASE SAVEPOINT identity")
    return row[0] if row else None
