"""A database and a role of a restore test's own: created, used, dropped, also after a crash.

What a restore runs comes from the backup directory, and whoever can write there may have written
it. So where the connection's role is a superuser, the test runs as a role that owns its database
and has no other rights: it can read no file and start no program. It logs in by itself, since SET
ROLE could be undone from within.

A live test holds an advisory lock on its database's name. A database whose lock is free belongs to
a dead test, and the next one drops it with its role.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import psycopg2
from psycopg2.extensions import cursor as Cursor
from psycopg2.extensions import encrypt_password
from psycopg2.sql import SQL, Identifier, Literal

from vector_backup_pipeline.engine.errors import DatabaseError, InvalidParams
from vector_backup_pipeline.engine.postgres.connection import (
    ConnectionSettings,
    close_quietly,
    connect,
    connect_to_write,
    database_errors,
)
from vector_backup_pipeline.engine.postgres.recreation.extensions import extension_states
from vector_backup_pipeline.engine.postgres.recreation.target_objects import (
    existing_roles,
    existing_schemas,
)
from vector_backup_pipeline.engine.postgres.sql_ascii import ENCODING
from vector_backup_pipeline.engine.table_definition import Dependency

# The database's name, and its role's.
_PREFIX = "vector_drill_"
_NAME = re.compile(r"vector_drill_[0-9a-f]{32}")

# Names that PostgreSQL keeps for itself: there already, or not to be made.
_RESERVED = "pg_"
# The session's role, whatever SET ROLE says: a statement could change back to it.
_IS_SUPERUSER = "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = session_user"
_DANGEROUS_ROLES = """
SELECT rolname::text FROM pg_catalog.pg_roles
 WHERE pg_catalog.pg_has_role(session_user, oid, 'MEMBER')
   AND (rolsuper OR rolname IN (
        'pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program'))
 ORDER BY 1
"""


@dataclass(frozen=True)
class DrillServer:
    """A server to drill on. A throwaway one is the drill's own: it may make roles there, which are
    the whole server's."""

    settings: ConnectionSettings
    is_throwaway: bool


@contextlib.contextmanager
def drill_database(
    server: DrillServer,
    drill_id: str,
    roles: Collection[str],
    source_encoding: str,
    extensions: Sequence[Dependency] = (),
) -> Iterator[ConnectionSettings]:
    """An empty database beside the one that the server's settings lead to; gone at the end.

    On a throwaway server the `roles` are there too, and may not log in. Where the test has a role
    of its own, so are the `extensions` that the server has: that role could not create them.

    Raises:
        PermissionDenied: The role may not create databases.
        InvalidParams: The role is not a superuser, but may read files or start programs.
        ServiceUnavailable, DatabaseError: The server can't be used.
    """
    name = _PREFIX + re.sub(r"[^0-9a-f]", "", drill_id.lower())[:32].rjust(32, "0")
    settings = server.settings
    inside = replace(settings, parameters={**settings.parameters, "dbname": name})
    guard = connect(settings)
    try:
        with guard.cursor() as cursor:
            with database_errors("make a database for the drill", settings.secrets):
                # In one call: only then is the server told, and may we write whatever its default.
                guard.set_session(readonly=False, autocommit=True)
                _drop_dead(cursor)
                _hold(cursor, name)
            try:
                with database_errors("make a database for the drill", settings.secrets):
                    own = _make_role(cursor, name, inside)
                    _make(cursor, name, None if own is None else name, source_encoding)
                    if server.is_throwaway:
                        _make_roles(cursor, roles)
                    if own is not None:
                        _make_extensions(inside, name, extensions)
                        _check_login(own)
                yield own or inside
            except BaseException:
                with contextlib.suppress(psycopg2.Error):  # The first error is the one to report.
                    _drop(cursor, name)
                raise
            with database_errors("drop the drill's database", settings.secrets):
                _drop(cursor, name)
    finally:
        close_quietly(guard)


def _make_role(cursor: Cursor, name: str, inside: ConnectionSettings) -> ConnectionSettings | None:
    """A role without rights, and how it connects; None where ours has no more rights than that."""
    cursor.execute(_IS_SUPERUSER)
    if cursor.fetchone() != (True,):
        _check_harmless(cursor)
        return None
    password = secrets.token_urlsafe()
    # Hashed here, so that the server's log can't hold it.
    hashed = encrypt_password(password, name, cursor.connection, "scram-sha-256")
    # BYPASSRLS, so that recall is measured over all rows also under FORCE ROW LEVEL SECURITY.
    create = SQL("CREATE ROLE {} LOGIN BYPASSRLS PASSWORD {}")
    cursor.execute(create.format(Identifier(name), Literal(hashed)))
    return replace(
        inside,
        parameters={**inside.parameters, "user": name, "password": password},
        secrets=(*inside.secrets, password),
    )


def _check_harmless(cursor: Cursor) -> None:
    cursor.execute(_DANGEROUS_ROLES)
    if dangerous := [name for (name,) in cursor.fetchall()]:
        raise InvalidParams(
            "A restore test runs what stands in the backup directory, and the role of "
            f"scratch_connection is a member of {', '.join(dangerous)}: it may read or write the "
            "server's files or start programs there. Use a role with CREATEDB alone. A superuser "
            "will do, too: the test then has a role of its own without rights."
        )


def _check_login(own: ConnectionSettings) -> None:
    try:
        close_quietly(connect(own))
    except DatabaseError as error:
        raise DatabaseError(
            "The server does not let the restore test's own role log in. (It has one because the "
            f"role of scratch_connection is a superuser.) {error.message} Let pg_hba.conf accept a "
            "password from roles vector_drill_…, or use a role with CREATEDB and without SUPERUSER."
        ) from error


def _make(cursor: Cursor, name: str, owner: str | None, source_encoding: str) -> None:
    """template0 alone can be copied while others are connected to template1, holds nothing of this
    installation, and goes with any encoding. UTF8 holds every row but those of a SQL_ASCII
    database, and locale C fits both on every server."""
    encoding = ENCODING if source_encoding == ENCODING else "UTF8"
    cursor.execute(
        SQL(
            "CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING {} LC_COLLATE 'C' LC_CTYPE 'C'"
        ).format(
            Identifier(name),
            SQL("DEFAULT") if owner is None else Identifier(owner),
            Literal(encoding),
        )
    )


def _make_roles(cursor: Cursor, roles: Collection[str]) -> None:
    for role in sorted(set(roles) - existing_roles(cursor, roles)):
        if not role.startswith(_RESERVED):
            cursor.execute(SQL("CREATE ROLE {} NOLOGIN").format(Identifier(role)))


def _make_extensions(
    settings: ConnectionSettings, owner: str, extensions: Sequence[Dependency]
) -> None:
    """As our own role, before any statement of the backup runs: an extension's script may trust
    what is in its schema. What the server lacks, the restore reports."""
    connection = connect_to_write(settings)
    try:
        with connection.cursor() as cursor:
            states = extension_states(cursor, [each.name for each in extensions])
            for each in extensions:
                if states[each.name].installed or not states[each.name].available:
                    continue
                schema = Identifier(each.schema_name)
                if not existing_schemas(cursor, {each.schema_name}):
                    create = SQL("CREATE SCHEMA {} AUTHORIZATION {}")
                    cursor.execute(create.format(schema, Identifier(owner)))
                cursor.execute(
                    SQL("CREATE EXTENSION {} WITH SCHEMA {}").format(Identifier(each.name), schema)
                )
        connection.commit()
    finally:
        close_quietly(connection)


def _drop_dead(cursor: Cursor) -> None:
    cursor.execute(
        "SELECT datname::text FROM pg_catalog.pg_database"
        " WHERE left(datname::text, %(length)s) = %(prefix)s"
        "   AND pg_catalog.pg_has_role(datdba, 'USAGE')"
        " UNION SELECT rolname::text FROM pg_catalog.pg_roles"
        " WHERE left(rolname::text, %(length)s) = %(prefix)s"
        "   AND pg_catalog.pg_has_role(oid, 'USAGE') ORDER BY 1",
        {"length": len(_PREFIX), "prefix": _PREFIX},
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
    # IF EXISTS would ask for the right to drop roles also where there is none.
    for role in existing_roles(cursor, {name}):
        cursor.execute(SQL("DROP ROLE {}").format(Identifier(role)))
