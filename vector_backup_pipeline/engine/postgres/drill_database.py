"""A database of a drill's own: made, used, dropped, also when the one who made it died.

A live drill holds an advisory lock that goes by the database's name. So a drill's database whose
lock is free is a dead drill's, and the next one drops it.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Identifier, Literal

from vector_backup_pipeline.engine.postgres.connection import (
    ConnectionSettings,
    close_quietly,
    connect,
    database_errors,
)
from vector_backup_pipeline.engine.postgres.recreation.lookups import roles_there
from vector_backup_pipeline.engine.postgres.sql_ascii import ENCODING

_PREFIX = "vector_drill_"
_NAME = re.compile(r"vector_drill_[0-9a-f]{32}")


# Names that PostgreSQL keeps for itself: there already, or not to be made.
_RESERVED = "pg_"


@dataclass(frozen=True)
class DrillServer:
    """A server to drill on. A throwaway one is the drill's own: it may make roles there, which are
    the whole server's."""

    settings: ConnectionSettings
    is_throwaway: bool


@contextlib.contextmanager
def drill_database(
    server: DrillServer, drill_id: str, roles: Collection[str], source_encoding: str
) -> Iterator[ConnectionSettings]:
    """An empty database beside the one that the server's settings lead to; gone at the end. On a
    throwaway server the `roles` are there too, and may not log in.

    Raises:
        PermissionDenied: the role may not create databases.
        ServiceUnavailable, DatabaseError: the server can't be used.
    """
    name = _PREFIX + re.sub(r"[^0-9a-f]", "", drill_id.lower())[:32].rjust(32, "0")
    settings = server.settings
    guard = connect(settings)
    try:
        with guard.cursor() as cursor:
            with database_errors("make a database for the drill", settings.secrets):
                # In one call: only then is the server told, and may we write whatever its default.
                guard.set_session(readonly=False, autocommit=True)
                _drop_dead(cursor)
                _hold(cursor, name)
                _make(cursor, name, source_encoding)
                if server.is_throwaway:
                    _make_roles(cursor, roles)
            try:
                parameters = {**settings.parameters, "dbname": name}
                yield replace(settings, parameters=parameters)
            finally:
                with database_errors("drop the drill's database", settings.secrets):
                    _drop(cursor, name)
    finally:
        close_quietly(guard)


def _make(cursor: Cursor, name: str, source_encoding: str) -> None:
    """template0 alone can be copied while others are connected to template1, holds nothing of this
    installation, and goes with any encoding. UTF8 holds every row but those of a SQL_ASCII
    database, and locale C fits both on every server."""
    encoding = ENCODING if source_encoding == ENCODING else "UTF8"
    cursor.execute(
        SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE 'C' LC_CTYPE 'C'").format(
            Identifier(name), Literal(encoding)
        )
    )


def _make_roles(cursor: Cursor, roles: Collection[str]) -> None:
    for role in sorted(set(roles) - roles_there(cursor, roles)):
        if not role.startswith(_RESERVED):
            cursor.execute(SQL("CREATE ROLE {} NOLOGIN").format(Identifier(role)))


def _drop_dead(cursor: Cursor) -> None:
    cursor.execute(
        "SELECT datname::text FROM pg_database WHERE left(datname::text, %s) = %s"
        " AND pg_has_role(datdba, 'USAGE') ORDER BY 1",
        (len(_PREFIX), _PREFIX),
    )
    for (name,) in cursor.fetchall():
        if _NAME.fullmatch(name) and _is_dead(cursor, name):
            _drop(cursor, name)


def _is_dead(cursor: Cursor, name: str) -> bool:
    cursor.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", (name,))
    return cursor.fetchone() == (True,)


def _hold(cursor: Cursor, name: str) -> None:
    cursor.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", (name,))


def _drop(cursor: Cursor, name: str) -> None:
    cursor.execute(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(name)))
