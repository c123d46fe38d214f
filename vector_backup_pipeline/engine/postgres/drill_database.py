"""A database of a drill's own: made, used, dropped, also when the one who made it died.

A live drill holds an advisory lock that goes by the database's name. So a drill's database whose
lock is free is a dead drill's, and the next one drops it.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import replace

from psycopg2.extensions import cursor as Cursor
from psycopg2.sql import SQL, Identifier

from vector_backup_pipeline.engine.postgres.connection import (
    ConnectionSettings,
    close_quietly,
    connect,
    database_errors,
)

_PREFIX = "vector_drill_"
_NAME = re.compile(r"vector_drill_[0-9a-f]{32}")


@contextlib.contextmanager
def drill_database(settings: ConnectionSettings, drill_id: str) -> Iterator[ConnectionSettings]:
    """An empty database beside the one that `settings` lead to; gone at the end.

    Raises:
        PermissionDenied: the role may not create databases.
        ServiceUnavailable, DatabaseError: the server can't be used.
    """
    name = _PREFIX + re.sub(r"[^0-9a-f]", "", drill_id.lower())[:32].rjust(32, "0")
    guard = connect(settings)
    try:
        guard.autocommit = True
        with guard.cursor() as cursor:
            with database_errors("make a database for the drill", settings.secrets):
                _drop_dead(cursor)
                _hold(cursor, name)
                # template0 alone can be copied while others are connected to template1, and holds
                # nothing of this installation.
                make = SQL("CREATE DATABASE {} TEMPLATE template0")
                cursor.execute(make.format(Identifier(name)))
            try:
                parameters = {**settings.parameters, "dbname": name}
                yield replace(settings, parameters=parameters)
            finally:
                with database_errors("drop the drill's database", settings.secrets):
                    _drop(cursor, name)
    finally:
        close_quietly(guard)


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
