"""Connection strings: what they may hold, and what they may take from their surroundings.

- A caller's string (`db_connection`) takes nothing. Whatever it leaves out gets libpq's own default
  and never a PG* variable, a service, a password file or a key of this process's user; else
  `postgresql://u@elsewhere/db` would send our password to a stranger.
- The installation's own string or fields: libpq fills in the rest as it does for psql.
- None of these: libpq's environment alone.
"""

from __future__ import annotations

import contextlib
import getpass
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

import psycopg2
from psycopg2.extensions import parse_dsn

from vector_backup_pipeline.engine.errors import InvalidParams, Problem, parameter_error
from vector_backup_pipeline.engine.secrets import SecretText

_NO_SUCH_FILE = "/dev/null/none"
# Every libpq option that has an environment variable, a service entry or a default file behind it,
# with the value that excludes these. Options unknown to the linked libpq are left out.
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
# What libpq checks only when it connects, where its error looks like a server that is not reached
# (PostgreSQL documentation, "Parameter Key Words").
_NUMBER = r"\s*[+-]?\d{1,9}\s*"
_VALUES = {
    "sslmode": "disable|allow|prefer|require|verify-ca|verify-full",
    "sslnegotiation": "postgres|direct",
    "channel_binding": "disable|prefer|require",
    "gssencmode": "disable|prefer|require",
    "load_balance_hosts": "disable|random",
    "target_session_attrs": "any|read-write|read-only|primary|standby|prefer-standby",
    **dict.fromkeys(("connect_timeout", "tcp_user_timeout", "keepalives"), _NUMBER),
    **dict.fromkeys(("keepalives_idle", "keepalives_interval", "keepalives_count"), _NUMBER),
}
_HIGHEST_PORT = 65535
# SQLAlchemy names its driver in the scheme, such as postgresql+psycopg://.
_SQLALCHEMY_DRIVER = re.compile(r"^(postgres(?:ql)?)\+[A-Za-z0-9_]+://")
_URL = re.compile(r"postgres(?:ql)?://")
_MALFORMED = (
    "is malformed, or has an option that PostgreSQL's libpq does not know, such as the options "
    "schema and pgbouncer of other libraries. Write postgresql://user:password@host:port/dbname "
    "(with special characters percent-encoded) or libpq's key=value form."
)
# They name files or services of the machine that connects, make libpq write a file, or let it use
# the Kerberos ticket of this machine's user.
_LOCAL_OPTIONS = {
    *("service", "servicefile", "passfile", "sslcert", "sslkey", "sslkeylogfile"),
    *("sslrootcert", "sslcrl", "sslcrldir", "gssencmode", "gssdelegation", "require_auth"),
}
_SECRET_OPTIONS = ("password", "sslpassword", "scram_client_key", "oauth_client_secret")


@dataclass(frozen=True)
class ConnectionSettings:
    """Where to connect and with what. Never shows its parameters."""

    parameters: Mapping[str, str] = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    stands_alone: bool = False

    @classmethod
    def from_caller(cls, text: SecretText, key: str = "db_connection") -> ConnectionSettings:
        """The connection string of a caller, in the parameter `key`: takes nothing from here.
        Raises `InvalidParams` if it is malformed, and repeats none of it."""
        options = _parse(text, key)
        if "service" in options:
            advice = "names a service; write host, port, dbname and user instead."
            raise parameter_error([Problem((key,), advice)])
        # An empty option would have libpq look where it always looks: passfile='' in ~/.pgpass.
        options = {name: value for name, value in options.items() if value}
        user = options.get("user") or _own_user()
        isolated = {name: value for name, value in _ISOLATED.items() if _is_known(name)}
        login = {"user": user, "dbname": options.get("dbname") or user}
        return cls(isolated | options | login, _secrets_of(options), stands_alone=True)

    @classmethod
    def from_installation(cls, text: SecretText, source: str) -> ConnectionSettings:
        """The installation's own string; `source` names its variable or field in messages."""
        options = _parse(text, source)
        return cls(options, _secrets_of(options))

    @classmethod
    def from_fields(cls, fields: Mapping[str, str]) -> ConnectionSettings:
        """host, port, dbname, user, password; none at all means libpq's environment."""
        return cls(dict(fields), _secrets_of(fields))


def check_remote_caller(text: SecretText) -> None:
    """Refuse what a caller over the network may not write in a `db_connection`: it must name a host
    and no socket, file or Kerberos ticket of the machine that will connect. Raises `InvalidParams`,
    which does not repeat it."""
    options = _parse(text, "db_connection")
    local = sorted(name for name, value in options.items() if _is_local(name, value))
    if local:
        raise InvalidParams(
            f"The db_connection has {', '.join(local)}, which a caller over the network may not "
            "set like that: it leads to files, services or credentials of the machine that makes "
            "the backup. Leave it out."
        )
    hosts = (options.get("host") or options.get("hostaddr") or "").split(",")
    if not all(hosts) or any(host.startswith(("/", "@")) for host in hosts):
        raise InvalidParams(
            "The db_connection must name the host of a database server: "
            "postgresql://user:password@host:port/dbname."
        )


def _is_local(option: str, value: str) -> bool:
    """Whether it leads to something of the machine that connects. An empty value does not, since a
    caller's empty options count as absent; nor what excludes this; nor `sslrootcert=system`, the
    system's own certificates."""
    harmless = ("", _ISOLATED.get(option), "system" if option == "sslrootcert" else None)
    return option in _LOCAL_OPTIONS and value not in harmless


def _parse(text: SecretText, source: str) -> dict[str, str]:
    """The options of a connection string. Raises `InvalidParams` if it is malformed, and repeats
    none of it."""
    plain = _SQLALCHEMY_DRIVER.sub(r"\1://", text.reveal())
    options: dict[str, str] | None = None
    # libpq would not see what follows a NUL.
    if plain.strip() and "\0" not in plain and not _splits_password(plain):
        # Raised below, away from the driver's error, which repeats the string.
        with contextlib.suppress(psycopg2.Error, UnicodeError, ValueError):
            options = {name: str(value) for name, value in parse_dsn(plain).items()}
    problem = _MALFORMED if options is None else _invalid_value(options)
    if options is None or problem is not None:
        advice = f"{problem} The string is not shown, because it may hold a password."
        raise parameter_error([Problem((source,), advice)])
    return options


def _invalid_value(options: Mapping[str, str]) -> str | None:
    """What is wrong with a value, without the value."""
    for name, pattern in _VALUES.items():
        if name in options and not re.fullmatch(pattern, options[name], re.ASCII):
            allowed = "a number" if pattern == _NUMBER else pattern.replace("|", ", ")
            return f"has an invalid value for {name}. Allowed: {allowed}."
    for port in filter(None, options.get("port", "").split(",")):
        if not (port.isascii() and port.isdigit() and 0 < int(port) <= _HIGHEST_PORT):
            return f"has a port that is not a number from 1 to {_HIGHEST_PORT}."
    return None


def _splits_password(text: str) -> bool:
    """Whether a URL's password holds an unencoded `@` or `/`: libpq would take what follows for the
    host or the database, and show it in its messages."""
    if _URL.match(text) is None:
        return False
    authority, _, path = text.partition("://")[2].partition("?")[0].partition("/")
    return authority.count("@") > 1 or "@" in path


def _secrets_of(options: Mapping[str, str]) -> tuple[str, ...]:
    plain = {options[name] for name in _SECRET_OPTIONS if options.get(name)}
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
