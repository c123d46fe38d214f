"""A database and a role for one restore test (drill): created, used, dropped, even after a crash.

The statements of a restore come from the backup directory, and anyone who can write there may have
written them. So if the connection's role is a superuser, the test runs as a role of its own that
owns its database and has no other rights: it can read no file and start no program. It logs in by
itself, since SET ROLE could be undone from within.

A live test holds an advisory lock on its database's name. A database whose lock is free belongs to
a dead test, and the next one drops it with its role.
"""

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
from vector_backup_pipeline.engine.postgres.recreation.target_objects import (
    create_extension,
    existing_schemas,
    extension_states,
)
from vector_backup_pipeline.engine.postgres.session import fetch_rows, fetch_value
from vector_backup_pipeline.engine.postgres.sql_ascii import ENCODING
from vector_backup_pipeline.engine.table_definition import Dependency

# Of the database's name, which is its role's name too.
_PREFIX = "vector_drill_"
_NAMES = """
    SELECT datname::text FROM pg_catalog.pg_database
     WHERE datname::text ~ '^vector_drill_[0-9a-f]{32}$' AND pg_catalog.pg_has_role(datdba, 'USAGE')
     UNION
    SELECT rolname::text FROM pg_catalog.pg_roles
     WHERE rolname::text ~ '^vector_drill_[0-9a-f]{32}$' AND pg_catalog.pg_has_role(oid, 'USAGE')
     ORDER BY 1
"""
_ROLES = "SELECT rolname::text FROM pg_catalog.pg_roles WHERE rolname::text = ANY(%s)"
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
    """A server for restore tests. Roles, which belong to the whole server, are created only on a
    throwaway one."""

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
    """An empty database on the server, dropped at the end.

    On a throwaway server the `roles` exist too, without login. If the test has a role of its own,
    so do the `extensions` that the server has: that role could not create them.

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
            with database_errors("create a database for the restore test", settings.secrets):
                # In one call: else psycopg2 would not tell the server that we may write.
                guard.set_session(readonly=False, autocommit=True)
                _drop_dead(cursor)
                cursor.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", (name,))
            try:
                with database_errors("create a database for the restore test", settings.secrets):
                    own = _create_role(cursor, name, inside)
                    _create_database(cursor, name, has_own_role=own is not None, of=source_encoding)
                    if server.is_throwaway:
                        _create_roles(cursor, roles)
                    if own is not None:
                        _create_extensions(inside, name, extensions)
                        _check_login(own)
                yield own or inside
            except BaseException:
                with contextlib.suppress(psycopg2.Error):  # The first error is the one to report.
                    _drop(cursor, name)
                raise
            with database_errors("drop the database of the restore test", settings.secrets):
                _drop(cursor, name)
    finally:
        close_quietly(guard)


def _create_role(
    cursor: Cursor, name: str, inside: ConnectionSettings
) -> ConnectionSettings | None:
    """A role without rights, and how it connects; None if the connection's role is none with more
    rights than that."""
    if not fetch_value(cursor, _IS_SUPERUSER):
        if dangerous := [role for (role,) in fetch_rows(cursor, _DANGEROUS_ROLES)]:
            raise InvalidParams(
                "A restore test runs statements from the backup directory, and the role of "
                f"scratch_connection is a member of {', '.join(dangerous)}: it may read or write "
                "the server's files or start programs there. Use a role with CREATEDB alone, or a "
                "superuser: the test then has a role of its own without rights."
            )
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


def _check_login(own: ConnectionSettings) -> None:
    try:
        close_quietly(connect(own))
    except DatabaseError as error:
        raise DatabaseError(
            "The server does not let the restore test's own role log in. (It has one because the "
            f"role of scratch_connection is a superuser.) {error.message} Let pg_hba.conf accept a "
            "password from roles vector_drill_…, or use a role with CREATEDB and without SUPERUSER."
        ) from error


def _create_database(cursor: Cursor, name: str, *, has_own_role: bool, of: str) -> None:
    """template0 alone can be copied while others are connected to template1, holds nothing of this
    installation, and takes any encoding. UTF8 holds every row but those of a SQL_ASCII database,
    and locale C fits both on every server."""
    create = SQL(
        "CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING {} LC_COLLATE 'C' LC_CTYPE 'C'"
    )
    owner = Identifier(name) if has_own_role else SQL("DEFAULT")
    encoding = Literal(ENCODING if of == ENCODING else "UTF8")
    cursor.execute(create.format(Identifier(name), owner, encoding))


def _create_roles(cursor: Cursor, roles: Collection[str]) -> None:
    existing = {name for (name,) in fetch_rows(cursor, _ROLES, (list(roles),))}
    for role in sorted(set(roles) - existing):
        if not role.startswith("pg_"):  # Reserved.
            cursor.execute(SQL("CREATE ROLE {} NOLOGIN").format(Identifier(role)))


def _create_extensions(
    settings: ConnectionSettings, owner: str, extensions: Sequence[Dependency]
) -> None:
    """As the connection's role, before any statement of the backup runs: an extension's script may
    trust what is in its schema. The restore reports what the server lacks."""
    with (
        contextlib.closing(connect_to_write(settings)) as connection,
        connection.cursor() as cursor,
    ):
        states = extension_states(cursor, extensions)
        for extension in extensions:
            state, schema = states[extension.name], extension.schema_name
            if state.installed is not None or state.available is None:
                continue
            if not existing_schemas(cursor, [schema]):
                create = SQL("CREATE SCHEMA {} AUTHORIZATION {}")
                cursor.execute(create.format(Identifier(schema), Identifier(owner)))
            create_extension(cursor, extension.name, schema)
        connection.commit()


def _drop_dead(cursor: Cursor) -> None:
    for (name,) in fetch_rows(cursor, _NAMES):
        query = "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))"
        if fetch_value(cursor, query, (name,)):
            _drop(cursor, name)


def _drop(cursor: Cursor, name: str) -> None:
    cursor.execute(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(name)))
    # IF EXISTS would need the privilege to drop roles even if there is none.
    if fetch_value(cursor, _ROLES, ([name],)) is not None:
        cursor.execute(SQL("DROP ROLE {}").format(Identifier(name)))
