"""Which server a connection is connected to."""

from __future__ import annotations

from datetime import datetime
from operator import attrgetter

import psycopg2
from psycopg2.extensions import cursor as Cursor

from vector_backup_pipeline.engine.manifest import Server
from vector_backup_pipeline.engine.postgres.definitions.reading import rows
from vector_backup_pipeline.engine.postgres.session import fetch_value, savepoint


class ServerIdentity(Server):
    """What tells one server from another, and what a restore needs to know of it.

    `timeline` is None on a replica, `system_identifier` where the role may not read it.
    """

    def is_same_process_as(self, other: ServerIdentity) -> bool:
        """Whether both are one running server: a replica shares its primary's identifier."""
        process = attrgetter("system_identifier", "started_at", "in_recovery", "database")
        return bool(process(self) == process(other))

    def continues(self, earlier: ServerIdentity) -> bool:
        """Whether this is the same primary as `earlier`, perhaps restarted: it has its commits."""
        if self.in_recovery:
            return False
        if self.system_identifier is None:
            # Nothing tells a restarted server from another one.
            return self.is_same_process_as(earlier)
        history = attrgetter("system_identifier", "timeline", "database")
        return bool(history(self) == history(earlier))


_IDENTITY = """
    SELECT current_setting('server_version') AS version,
           current_setting('server_version_num')::int AS version_num,
           current_setting('server_encoding') AS encoding, current_database() AS database,
           pg_postmaster_start_time() AS started_at, pg_is_in_recovery() AS in_recovery,
           CASE WHEN NOT pg_is_in_recovery() THEN ('x' || left(
               pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int END AS timeline,
           (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS pgvector_version,
           (SELECT oid FROM pg_database WHERE datname = current_database()) AS database_oid
"""


def identify_server(cursor: Cursor) -> ServerIdentity:
    (row,) = rows(cursor, _IDENTITY)
    try:
        with savepoint(cursor):
            query = "SELECT system_identifier::text FROM pg_control_system()"
            system_identifier = fetch_value(cursor, query)
    except psycopg2.errors.InsufficientPrivilege:  # Some managed services revoke the function.
        system_identifier = None
    return ServerIdentity(**row, system_identifier=system_identifier)


def read_clock(cursor: Cursor) -> datetime:
    now: datetime = fetch_value(cursor, "SELECT clock_timestamp()")
    return now


def pgvector_to_come(cursor: Cursor) -> str | None:
    """The version that CREATE EXTENSION would install, None if it is not available."""
    query = "SELECT default_version FROM pg_available_extensions WHERE name = 'vector'"
    version: str | None = fetch_value(cursor, query)
    return version
