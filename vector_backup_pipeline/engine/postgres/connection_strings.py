"""Connection strings: what they may hold, and what they may take from their surroundings.

- A caller's string (`db_connection`) takes nothing. Whatever it leaves out gets libpq's own default
  and never a PG* variable, a service, a password file or a key of this process's user; else
  `postgresql://u@elsewhere/db` would send our password to a stranger.
- The installation's own string or fields: libpq fills in the rest as it does for psql.
- None of these: libpq's environment alone.
"""

from __future__ import annotations

import getpass
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote

import psycopg2
from psycopg2.extensions import parse_dsn

from vector_backup_pipeline.engine.errors import InvalidParams, Problem, parameter_error
from vector_backup_pipeline.engine.secrets import SecretText

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
_NUMBERS = (
    *("connect_timeout", "keepalives", "keepalives_idle", "keepalives_interval"),
    *("keepalives_count", "tcp_user_timeout"),
)
_NUMBER = re.compile(r"\s*[+-]?\d{1,9}\s*", re.ASCII)
# SQLAlchemy names its driver in the scheme, such as postgresql+psycopg://.
_SQLALCHEMY_DRIVER = re.compile(r"^(postgres(?:ql)?)\+[A-Za-z0-9_]+://")
_URL = re.compile(r"postgres(?:ql)?://")
_KEYWORD = re.compile(r"(?:^|\s)([^\s=]+)\s*=")
_QUOTED = re.compile(r"'(?:\\.|[^'\\])*'")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
# Common options of other libraries (Prisma, asyncpg, SQLAlchemy).
_FOREIGN = {
    *("pgbouncer", "schema", "search_path", "ssl", "sslaccept", "charset", "driver"),
    *("connection_limit", "pool_size", "pool_timeout", "socket_timeout", "statement_cache_size"),
}
_MALFORMED = (
    "is malformed. Write postgresql://user:password@host:port/dbname (with special characters "
    "percent-encoded) or libpq's key=value form."
)
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
    def from_caller(cls, text: SecretText, key: str = "db_connection") -> ConnectionSettings:
        """The connection string of a caller, in the parameter `key`: stands on its own.

        Raises:
            InvalidParams: it is malformed. The message does not repeat it.
        """
        parsed = _parse(text, key)
        if "service" in parsed:
            advice = "names a service; write host, port, dbname and user instead."
            raise parameter_error([Problem((key,), advice)])
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


def _parse(text: SecretText, source: str) -> dict[str, str]:
    """The keywords and values of a connection string.

    Raises:
        InvalidParams: it is malformed. The message repeats none of it but a keyword.
    """
    plain = _SQLALCHEMY_DRIVER.sub(r"\1://", text.reveal())
    given = _parsed(plain)
    problem = _MALFORMED if given is None else _unusable_value(given)
    if given is None and (keyword := _unknown_keyword(plain)):
        problem = (
            f"has the keyword {keyword}, which PostgreSQL's libpq does not know. Remove it; other "
            "libraries' options have no effect here."
        )
    # Raised away from the driver's error, whose message repeats the string.
    if given is None or problem is not None:
        text_of_problem = f"{problem} The string is not shown, because it may hold a password."
        raise parameter_error([Problem((source,), text_of_problem)])
    return given


def _parsed(text: str) -> dict[str, str] | None:
    # libpq would not see what follows a NUL.
    if not text.strip() or "\0" in text or _splits_password(text):
        return None
    try:
        return {key: str(value) for key, value in parse_dsn(text).items()}
    except (psycopg2.Error, UnicodeError, ValueError):
        return None


def _unusable_value(given: Mapping[str, str]) -> str | None:
    """What is wrong with a value, without the value."""
    for option, values in _CHOICES.items():
        if option in given and given[option] not in values:
            return f"has an unknown value for {option}; write {', '.join(sorted(values))}."
    for option in _NUMBERS:
        if option in given and not _NUMBER.fullmatch(given[option]):
            return f"has a value for {option} that is not a whole number."
    if not all(map(_is_port, filter(None, given.get("port", "").split(",")))):
        return f"has a port that is not a number from 1 to {_HIGHEST_PORT}."
    return None


def _unknown_keyword(text: str) -> str | None:
    """The first keyword that libpq does not know, unless it may be a piece of a password."""
    if (url := _URL.match(text)) is not None:
        if _splits_password(text):
            return None
        host_and_rest = text[url.end() :].rpartition("@")[2]
        keywords = [key for key, _ in parse_qsl(host_and_rest.partition("?")[2], True)]
    else:
        keywords = _KEYWORD.findall(_QUOTED.sub("''", text))
    may_be_password = False
    for keyword in keywords:
        if keyword in _SECRET_OPTIONS:
            # A password with a space or `&` in it ends in what looks like keywords.
            may_be_password = True
        elif not _is_known(keyword) and (keyword in _FOREIGN or not may_be_password):
            return keyword if _NAME.fullmatch(keyword) else None
    return None


def _splits_password(text: str) -> bool:
    """Whether a URL's password holds an unencoded `@` or `/`: libpq would take what follows for the
    host or the database, and show it in its messages."""
    if _URL.match(text) is None:
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
