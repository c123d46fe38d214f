"""How a server refuses a login, as its SQLSTATE.

libpq tells that in words alone, which follow the locale. So the login is repeated here as far as
needed, in the server's own protocol (PostgreSQL documentation, "Message Flow" and "SASL
Authentication"). The password itself is never sent: only a proof that it is known.
"""

from __future__ import annotations

import configparser
import getpass
import hashlib
import hmac
import os
import secrets
import socket
import ssl
import struct
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
_PROTOCOL_3 = 196608
_LONGEST_MESSAGE = 1 << 16
_DEFAULT_SOCKET_DIRECTORIES = ("/var/run/postgresql", "/tmp")  # noqa: S108 - libpq's own defaults
_PATIENCE_SECONDS = 3.0
_HIGHEST_PORT = 65535
# Kinds of the server's messages.
_ERROR, _AUTHENTICATION, _READY = b"E", b"R", b"Z"
_LOGGED_IN, _MD5, _SASL, _SASL_CONTINUE, _SASL_FINAL = 0, 5, 10, 11, 12
# Who logs in, or where, is refused: invalid authorization, no such database, no privilege to
# connect, a database that takes no connections. The same login is refused again.
_FINAL_CLASSES = {"28", "3D", "42"}
_FINAL_CODES = {"55000"}


@dataclass(frozen=True)
class Refusal:
    """A server answers. `sqlstate` is None where it does not become clear why it refused."""

    sqlstate: str | None

    @property
    def is_final(self) -> bool:
        code = self.sqlstate or ""
        return code[:2] in _FINAL_CLASSES or code in _FINAL_CODES


def refusal_of(parameters: Mapping[str, str]) -> Refusal | None:
    """How the server of `parameters` refuses their login; None if no server answers."""
    refusal = None
    for family, address in _addresses(parameters):
        try:
            with socket.socket(family, socket.SOCK_STREAM) as peer:
                peer.settimeout(_PATIENCE_SECONDS)
                peer.connect(address)
                peer.sendall(_SSL_REQUEST)
                offers_tls = peer.recv(1)
        except OSError:
            continue
        if offers_tls:
            refusal = Refusal(_ask(family, address, parameters, offers_tls == b"S"))
            if refusal.sqlstate is not None:
                break
    return refusal


def _ask(
    family: socket.AddressFamily,
    address: str | tuple[str, int],
    parameters: Mapping[str, str],
    offers_tls: bool,
) -> str | None:
    mode = _option(parameters, "sslmode") or "prefer"
    if (
        mode.startswith("verify")
        or _option(parameters, "sslrootcert")
        or _option(parameters, "require_auth") not in ("", "!gss,!sspi")
        or _option(parameters, "channel_binding") == "require"
    ):
        return None  # Only libpq knows how to make sure that this is the server that is meant.
    try:
        with socket.socket(family, socket.SOCK_STREAM) as plain:
            plain.settimeout(_PATIENCE_SECONDS)
            plain.connect(address)
            if offers_tls and mode not in ("disable", "allow") and family != socket.AF_UNIX:
                plain.sendall(_SSL_REQUEST)
                plain.recv(1)
                with _unverified().wrap_socket(plain) as peer:
                    return _Login(peer, parameters).sqlstate()
            return _Login(plain, parameters).sqlstate()
    except (OSError, ValueError, LookupError, struct.error):
        return None


def _unverified() -> ssl.SSLContext:
    """As libpq's sslmode prefer and require."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class _Login:
    """One login over `peer`, up to the server's refusal."""

    def __init__(self, peer: socket.socket, parameters: Mapping[str, str]) -> None:
        self._peer = peer
        self._user = _option(parameters, "user") or getpass.getuser()
        self._database = _option(parameters, "dbname", "PGDATABASE") or self._user
        self._password = _option(parameters, "password")

    def sqlstate(self) -> str | None:
        """The refusal's SQLSTATE; None if the login is granted or can't be followed."""
        options = ("user", self._user, "database", self._database)
        start = b"".join(each.encode() + b"\0" for each in options) + b"\0"
        self._peer.sendall(struct.pack("!ii", len(start) + 8, _PROTOCOL_3) + start)
        scram = None
        while True:
            kind, body = self._message()
            if kind == _ERROR:
                fields = {field[:1]: field[1:] for field in body.split(b"\0") if field}
                return fields[b"C"].decode("ascii")
            if kind == _READY:
                return None
            if kind != _AUTHENTICATION:
                continue
            (request,) = struct.unpack_from("!i", body)
            if request == _SASL and self._password:
                scram = _Scram(self._password)
                first = scram.first()
                self._send(b"SCRAM-SHA-256\0" + struct.pack("!i", len(first)) + first)
            elif request == _SASL_CONTINUE and scram is not None:
                self._send(scram.final(body[4:]))
            elif request == _MD5 and self._password:
                self._send(_md5_proof(self._user, self._password, body[4:8]))
            elif request not in (_LOGGED_IN, _SASL_FINAL):
                return None

    def _send(self, body: bytes) -> None:
        self._peer.sendall(b"p" + struct.pack("!i", len(body) + 4) + body)

    def _message(self) -> tuple[bytes, bytes]:
        kind, length = struct.unpack("!ci", self._receive(5))
        if not 4 <= length <= _LONGEST_MESSAGE:
            raise ValueError("not a message of PostgreSQL's protocol")
        return kind, self._receive(length - 4)

    def _receive(self, size: int) -> bytes:
        received = b""
        while len(received) < size:
            piece = self._peer.recv(size - len(received))
            if not piece:
                raise ConnectionError("closed by the server")
            received += piece
        return received


def _md5_proof(user: str, password: str, salt: bytes) -> bytes:
    """PostgreSQL documentation, "Message Flow", AuthenticationMD5Password."""
    inner = hashlib.md5((password + user).encode(), usedforsecurity=False).hexdigest()
    outer = hashlib.md5(inner.encode() + salt, usedforsecurity=False).hexdigest()
    return b"md5" + outer.encode() + b"\0"


class _Scram:
    """The client's side of SCRAM-SHA-256 (RFC 5802, RFC 7677), without channel binding."""

    def __init__(self, password: str) -> None:
        self._password = password.encode()
        self._bare = b"n=,r=" + b64encode(secrets.token_bytes(18))

    def first(self) -> bytes:
        return b"n,," + self._bare

    def final(self, challenge: bytes) -> bytes:
        given = dict(part.split(b"=", 1) for part in challenge.split(b","))
        salt, rounds = b64decode(given[b"s"]), int(given[b"i"])
        salted = hashlib.pbkdf2_hmac("sha256", self._password, salt, rounds)
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        without_proof = b"c=biws,r=" + given[b"r"]
        signed = b",".join((self._bare, challenge, without_proof))
        signature = hmac.digest(hashlib.sha256(client_key).digest(), signed, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        return without_proof + b",p=" + b64encode(proof)


def _addresses(
    parameters: Mapping[str, str],
) -> Iterator[tuple[socket.AddressFamily, str | tuple[str, int]]]:
    hosts = (_option(parameters, "hostaddr") or _option(parameters, "host")).split(",")
    ports = (_option(parameters, "port") or "5432").split(",")
    for position, host in enumerate(hosts):
        port = ports[position if len(ports) == len(hosts) else 0] or "5432"
        if not port.isdigit() or int(port) > _HIGHEST_PORT:
            continue
        if host.startswith(("/", "@")) or not host:
            for directory in [host] if host else _DEFAULT_SOCKET_DIRECTORIES:
                path = f"{directory}/.s.PGSQL.{port}"
                yield socket.AF_UNIX, path.replace("@", "\0", 1) if host[:1] == "@" else path
        else:
            yield from _resolved(host, int(port))


def _resolved(host: str, port: int) -> Iterator[tuple[socket.AddressFamily, str | tuple[str, int]]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return
    for family, _, _, _, address in found:
        yield family, (str(address[0]), int(address[1]))


def _option(parameters: Mapping[str, str], name: str, variable: str | None = None) -> str:
    """As libpq finds it: given, then from the service, then from the environment."""
    if name in parameters:
        return parameters[name]
    service = parameters.get("service") or os.environ.get("PGSERVICE")
    from_service = _service_entry(service, name) if service else None
    return from_service or os.environ.get(variable or f"PG{name.upper()}", "")


def _service_entry(service: str, name: str) -> str | None:
    system = Path(os.environ.get("PGSYSCONFDIR", "/etc/postgresql-common")) / "pg_service.conf"
    own = Path(os.environ.get("PGSERVICEFILE") or Path.home() / ".pg_service.conf")
    files = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        files.read([system, own])
    except (configparser.Error, UnicodeError):
        return None
    return files.get(service, name, fallback=None)
