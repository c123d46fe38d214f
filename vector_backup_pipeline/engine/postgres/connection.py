"""Connecting, and what a server's refusals mean.

Three sources of a connection, and what each may take from its surroundings:

- a caller's string (`db_connection`): nothing. Whatever it leaves out gets libpq's own default and
  never a PG* variable, a service, a password file or a key of this process's user; else
  `postgresql://u@elsewhere/db` would send our password to a stranger.
- the installation's own string or fields: libpq fills in the rest as it does for psql.
- none of these: libpq's environment alone.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import psycopg2
from psycopg2 import errorcodes
from psycopg2.extensions import ISOLATION_LEVEL_READ_COMMITTED, parse_dsn
from psycopg2.extensions import connection as Connection

from vector_backup_pipeline.engine.errors import (
    BackupError,
    DatabaseError,
    DatabaseRefused,
    InvalidParams,
    LockTimeout,
    PermissionDenied,
    ServiceUnavailable,
    TableNotFound,
)
from vector_backup_pipeline.engine.postgres.cancellable import CancellableConnection
from vector_backup_pipeline.engine.postgres.reachability import server_answers
from vector_backup_pipeline.engine.secrets import SecretText, redact

__all__ = ["Connection", "ConnectionSettings", "connect", "database_errors"]

OLDEST_SERVER = 130000  # pg_current_snapshot() and what else the snapshot needs

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

_NO_SUCH_FILE = "/dev/null/none"
# Every libpq option that has an environment variable, a service entry or a default file behind
# it, with the value that shuts that out. Options unknown to the linked libpq are left away.
_ISOLATED = {
    "host": "",
    "hostaddr": "",
    "port": "",
    "password": "",
    "passfile": _NO_SUCH_FILE,
    "options": "",
    "sslmode": "prefer",
    "sslcertmode": "disable",
    "sslcert": _NO_SUCH_FILE,
    "sslkey": "",
    "sslrootcert": "",
    "sslcrl": "",
    "sslcrldir": "",
    "sslsni": "1",
    "sslnegotiation": "postgres",
    "sslcompression": "0",
    "requirepeer": "",
    "require_auth": "!gss,!sspi",
    "channel_binding": "prefer",
    "ssl_min_protocol_version": "TLSv1.2",
    "ssl_max_protocol_version": "",
    "gssencmode": "disable",
    "gssdelegation": "0",
    "krbsrvname": "postgres",
    "gsslib": "",
    "target_session_attrs": "any",
    "load_balance_hosts": "disable",
}
# libpq has no value that shuts PGSERVICE out, so the variable itself goes while such a connection
# is made; the lock keeps others, who may want it, from connecting in that moment.
_SERVICE_VARIABLE = "PGSERVICE"
_connecting = threading.Lock()
_HIGHEST_PORT = 65535
# libpq looks at these only when it connects, and its refusal then looks like a server's (PostgreSQL
# documentation, "Parameter Key Words").
_CHOICES = {
    "sslmode": {"disable", "allow", "prefer", "require", "verify-ca", "verify-full"},
    "sslnegotiation": {"postgres", "direct"},
    "channel_binding": {"disable", "prefer", "require"},
    "gssencmode": {"disable", "prefer", "require"},
    "load_balance_hosts": {"disable", "random"},
    "target_session_attrs": {
        *("any", "read-write", "read-only", "primary", "standby", "prefer-standby")
    },
}
# Data exceptions, violated constraints, unsupported features, statements that don't fit: asked
# again, the server says the same again.
_REFUSALS = {"0A", "22", "23", "42"}
# They name files or services of the machine that connects, or make libpq write one.
_LOCAL_OPTIONS = {
    *("service", "servicefile", "passfile", "sslcert", "sslkey", "sslkeylogfile"),
    *("sslrootcert", "sslcrl", "sslcrldir"),
}
# What lets libpq show the Kerberos ticket of this machine's user, with the value that does not.
_KERBEROS_OPTIONS = {"gssencmode": "disable", "gssdelegation": "0"}
_KERBEROS_METHODS = {"gss", "sspi"}
_SECRET_OPTIONS = ("password", "sslpassword", "scram_client_key", "oauth_client_secret")


@dataclass(frozen=True)
class ConnectionSettings:
    """Where to connect and with what. Never shows its parameters."""

    parameters: Mapping[str, str] = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    stands_alone: bool = False

    @classmethod
    def from_caller(cls, text: SecretText) -> ConnectionSettings:
        """A `db_connection`: stands on its own.

        Raises:
            InvalidParams: it is malformed. The message does not repeat it.
        """
        parsed = _parse(text, "db_connection")
        if "service" in parsed:
            raise InvalidParams(
                "The db_connection names a service; write host, port, dbname and user instead."
            )
        # An empty option would have libpq look where it always looks: passfile='' in ~/.pgpass.
        given = {key: value for key, value in parsed.items() if value}
        user = given.get("user") or _own_user()
        own = {"user": user, "dbname": given.get("dbname") or user}
        isolated = {key: value for key, value in _ISOLATED.items() if _is_known(key)}
        return cls(isolated | given | own, _secrets_of(given), stands_alone=True)

    @classmethod
    def from_installation(cls, text: SecretText, source: str) -> ConnectionSettings:
        """The installation's own string; `source` names its variable or field in messages."""
        given = _parse(text, source)
        return cls(given, _secrets_of(given))

    @classmethod
    def from_fields(cls, fields: Mapping[str, str]) -> ConnectionSettings:
        """host, port, dbname, user, password; none at all means libpq's environment."""
        return cls(dict(fields), _secrets_of(fields))


def check_remote_caller(text: SecretText) -> None:
    """Refuse what a caller over the network may not say in a `db_connection`: it names a host, and
    neither a socket, a file nor a Kerberos ticket of the machine that will connect.

    Raises:
        InvalidParams: it does, or it is malformed. The message does not repeat it.
    """
    given = _parse(text, "db_connection")
    of_this_machine = sorted(key for key, value in given.items() if _is_local(key, value))
    if of_this_machine:
        raise InvalidParams(
            f"The db_connection has {', '.join(of_this_machine)}, which a caller over the network "
            "may not give like that: it leads to files, services or credentials of the machine "
            "that makes the backup. Leave it out."
        )
    hosts = (given.get("host") or given.get("hostaddr") or "").split(",")
    if not all(hosts) or any(host.startswith(("/", "@")) for host in hosts):
        raise InvalidParams(
            "The db_connection must name the host of a database server: "
            "postgresql://user:password@host:port/dbname."
        )


def _is_local(option: str, value: str) -> bool:
    """Whether it leads to something that the machine has which connects. What is empty does not:
    a caller's empty options count as not given."""
    if not value:
        return False
    if option == "require_auth":
        methods = set(value.split(","))
        refused = {method[1:] for method in methods if method.startswith("!")}
        return not refused >= _KERBEROS_METHODS if refused else bool(methods & _KERBEROS_METHODS)
    if option in _KERBEROS_OPTIONS:
        return value != _KERBEROS_OPTIONS[option]
    # libpq's one word for the system's own certificates.
    return option in _LOCAL_OPTIONS and (option, value) != ("sslrootcert", "system")


def connect(settings: ConnectionSettings) -> Connection:
    """Open a connection whose transactions begin with the first statement.

    Raises:
        ServiceUnavailable: no server was reached.
        DatabaseError: a server answered and refused.
    """
    parameters = _TRANSPORT | dict(settings.parameters) | _ALWAYS
    parameters.setdefault("application_name", "vector_backup_pipeline")
    keywords: dict[str, Any] = parameters
    refusal: psycopg2.Error | UnicodeError
    try:
        with _surroundings(settings):
            connection = CancellableConnection.open(**keywords)
    except (psycopg2.Error, UnicodeError) as error:
        refusal = error
    else:
        return _new_enough(connection)
    # Not inside `except`: the driver's error would stay on ours as its context.
    raise _refused(refusal, settings) from _cause(refusal, settings.secrets)


def connect_to_write(settings: ConnectionSettings) -> Connection:
    """Open a connection whose transactions are READ COMMITTED and may write, whatever the role or
    the database has for a default.

    Raises:
        ServiceUnavailable, DatabaseError: as `connect`.
    """
    connection = connect(settings)
    connection.set_session(
        isolation_level=ISOLATION_LEVEL_READ_COMMITTED, readonly=False, autocommit=False
    )
    return connection


def _new_enough(connection: Connection) -> Connection:
    if connection.server_version < OLDEST_SERVER:
        version = connection.server_version // 10000
        connection.close()
        raise DatabaseError(
            f"The server is PostgreSQL {version}; version 13 is the oldest that can be backed up."
        )
    return connection


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


def close_quietly(connection: Connection | None) -> None:
    """Close, whatever state it is in; the server rolls back what was open."""
    if connection is not None:
        with contextlib.suppress(psycopg2.Error):
            connection.close()


def end_quietly(connection: Connection) -> None:
    """Roll back and close; its locks are gone then, which closing alone would not wait for."""
    with contextlib.suppress(psycopg2.Error):
        connection.rollback()
    close_quietly(connection)


def cancel_quietly(connection: Connection) -> None:
    """Cancel what the connection does, from any thread; a closed one does nothing."""
    with contextlib.suppress(psycopg2.Error):
        connection.cancel()


@contextlib.contextmanager
def database_errors(action: str, secrets: tuple[str, ...] = ()) -> Iterator[None]:
    """Turn psycopg2's errors into ours: "Could not {action}: …"."""
    try:
        yield
    except psycopg2.Error as error:
        raise translated(error, action, secrets) from _cause(error, secrets)
    except UnicodeDecodeError as error:
        raise DatabaseError(
            f"Could not {action}: a value holds bytes that are not UTF-8 ({error.reason}). "
            "Use export_method 'copy', which takes bytes as they are."
        ) from error


def translated(error: psycopg2.Error, action: str, secrets: tuple[str, ...]) -> BackupError:
    """What `error` means, by SQLSTATE; without one the connection itself is gone."""
    text = redact(_first_line(error), secrets)
    if error.pgcode is None:
        return DatabaseError(
            f"Could not {action}: the connection to the server was lost ({text}). "
            "See the server's log for why, then run it again."
        )
    if error.pgcode == errorcodes.INSUFFICIENT_PRIVILEGE:
        return PermissionDenied(f"Could not {action}: {text}. {_permission_advice(text)}")
    if error.pgcode in (errorcodes.UNDEFINED_TABLE, errorcodes.INVALID_SCHEMA_NAME):
        return TableNotFound(f"Could not {action}: {text}.")
    if error.pgcode == errorcodes.LOCK_NOT_AVAILABLE:
        return LockTimeout(
            f"Could not {action}: {text}. Another session holds the table; find it in pg_locks, "
            "try again later, or raise VECTOR_BACKUP_LOCK_TIMEOUT."
        )
    text += _detail(error, secrets)
    kind = DatabaseRefused if error.pgcode[:2] in _REFUSALS else DatabaseError
    return kind(f"Could not {action}: {text} (SQLSTATE {error.pgcode}).")


def _detail(error: psycopg2.Error, secrets: tuple[str, ...]) -> str:
    """Which row or thing it was about, as far as the server says."""
    parts = []
    if error.diag.message_detail:
        parts.append(error.diag.message_detail.rstrip("."))
    context = (error.diag.context or "").splitlines()
    if context and context[0].startswith("COPY "):
        parts.append(context[0])
    return redact("".join(f": {part}" for part in parts), secrets)


def _permission_advice(text: str) -> str:
    if "row-level security" in text:
        return "Back up as the table's owner or as a role with BYPASSRLS."
    return "Grant the role of this connection what is missing."


def _refused(error: psycopg2.Error | UnicodeError, settings: ConnectionSettings) -> BackupError:
    text = redact(_first_line(error), settings.secrets)
    if server_answers(settings.parameters):
        return DatabaseError(
            f"The database server refused the connection: {text}. "
            "Check user, password and database name, and the server's pg_hba.conf."
        )
    return ServiceUnavailable(
        f"No database server was reached: {text}. "
        "Check host and port, and that the server is running."
    )


def _cause(error: Exception, secrets: tuple[str, ...]) -> Exception | None:
    """`error` as the cause to keep, unless its own text would show a secret."""
    # A UnicodeError carries the whole text along as an attribute.
    shows_it = isinstance(error, UnicodeError) or redact(str(error), secrets) != str(error)
    return None if shows_it else error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _parse(text: SecretText, source: str) -> dict[str, str]:
    malformed = InvalidParams(
        f"The connection string in {source} is malformed. Write "
        "postgresql://user:password@host:port/dbname (with special characters percent-encoded) "
        "or libpq's key=value form. It is not shown here, since it may hold a password."
    )
    given = _parsed(text.reveal())
    if given is None:
        # Raised out of reach of the driver's error, whose message repeats the string.
        raise malformed
    return given


def _parsed(text: str) -> dict[str, str] | None:
    # libpq would not see what follows a NUL.
    if not text.strip() or "\0" in text or _breaks_apart(text):
        return None
    try:
        given = {key: str(value) for key, value in parse_dsn(text).items()}
    except (psycopg2.Error, UnicodeError, ValueError):
        return None
    ports = [port for port in given.get("port", "").split(",") if port]
    choices = [given[option] in values for option, values in _CHOICES.items() if option in given]
    return given if all(map(_is_port, ports)) and all(choices) else None


def _breaks_apart(text: str) -> bool:
    """Whether a URL's password holds an `@` or `/` as it is: libpq would take what follows for the
    host or the database, and show it in its messages."""
    if not text.startswith(("postgresql://", "postgres://")):
        return False
    authority, _, path = text.partition("://")[2].partition("?")[0].partition("/")
    return authority.count("@") > 1 or "@" in path


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and 0 < int(text) <= _HIGHEST_PORT


def _secrets_of(parameters: Mapping[str, str]) -> tuple[str, ...]:
    plain = {parameters[key] for key in _SECRET_OPTIONS if parameters.get(key)}
    return tuple(sorted(plain | {quote(secret, safe="") for secret in plain}))


def _own_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:  # A container's user may have no name.
        raise InvalidParams("The db_connection names no user: add one.") from error


def _is_known(option: str) -> bool:
    try:
        parse_dsn(f"{option}=x")
    except psycopg2.ProgrammingError:
        return False
    return True
