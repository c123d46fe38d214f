"""Was any server there at all? Found out by asking, since libpq tells it only in words.

libpq's messages follow the locale, and a failed connection carries no SQLSTATE. Every PostgreSQL
server and pooler answers an SSLRequest with one byte before anything else (PostgreSQL
documentation, "Message Flow", SSL Session Encryption).
"""

from __future__ import annotations

import configparser
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
_DEFAULT_SOCKET_DIRECTORIES = ("/var/run/postgresql", "/tmp")  # noqa: S108 - libpq's own defaults
_PATIENCE_SECONDS = 3.0
_HIGHEST_PORT = 65535


def server_answers(parameters: Mapping[str, str]) -> bool:
    """Whether any of the servers that libpq would try with `parameters` says a word."""
    return any(_answers(family, address) for family, address in _addresses(parameters))


def _answers(family: socket.AddressFamily, address: str | tuple[str, int]) -> bool:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as peer:
            peer.settimeout(_PATIENCE_SECONDS)
            peer.connect(address)
            peer.sendall(_SSL_REQUEST)
            return len(peer.recv(1)) == 1
    except OSError:
        return False


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


def _option(parameters: Mapping[str, str], name: str) -> str:
    """As libpq finds it: given, then from the service, then from the environment."""
    if name in parameters:
        return parameters[name]
    service = parameters.get("service") or os.environ.get("PGSERVICE")
    from_service = _service_entry(service, name) if service else None
    return from_service or os.environ.get(f"PG{name.upper()}", "")


def _service_entry(service: str, name: str) -> str | None:
    system = Path(os.environ.get("PGSYSCONFDIR", "/etc/postgresql-common")) / "pg_service.conf"
    own = Path(os.environ.get("PGSERVICEFILE") or Path.home() / ".pg_service.conf")
    files = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        files.read([system, own])
    except (configparser.Error, UnicodeError):
        return None
    return files.get(service, name, fallback=None)
