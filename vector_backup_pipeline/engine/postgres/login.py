"""The SQLSTATE with which a server refuses a login.

For a refused login psycopg2 gives only a message, in the server's language. libpq can give the
code instead of the message (PostgreSQL documentation, PQsetErrorVerbosity), so the login is
repeated with that setting. libpq itself connects, with the TLS and password settings of the
connection, so a server that it does not trust learns nothing here either.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import select
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg2
from psycopg2 import _psycopg
from psycopg2.extensions import POLL_OK, POLL_READ, make_dsn
from psycopg2.extensions import connection as Connection

_PATIENCE_SECONDS = 5.0
# libpq tries the next host when one drops packets (milliseconds).
_SILENT_HOST = {"tcp_user_timeout": "2000"}
# PGVerbosity in libpq-fe.h: an error is its severity and its SQLSTATE, "FATAL:  28P01".
_PQERRORS_SQLSTATE = 3
_SQLSTATE = re.compile(rb":  ([0-9A-Z]{5})$", re.MULTILINE)
# Invalid authorization, no such database, no privilege to connect, a database that accepts no
# connections: the server refuses the same login again.
_FINAL_CLASSES = {"28", "3D", "42"}
_FINAL_CODES = {"55000"}


@dataclass(frozen=True)
class Refusal:
    """A server answered. `sqlstate` is None if it gave no code, or now accepts the login."""

    sqlstate: str | None

    @property
    def is_final(self) -> bool:
        code = self.sqlstate or ""
        return code[:2] in _FINAL_CLASSES or code in _FINAL_CODES


def begin_login(parameters: Mapping[str, Any]) -> Connection:
    """Begin a login with libpq's `parameters`, without waiting for the server."""
    return Connection(make_dsn(**(_SILENT_HOST | dict(parameters))), async_=1)


def refusal_of(connection: Connection) -> Refusal | None:
    """How the server refuses a login that has begun; None if no server answers."""
    try:
        libpq = _libpq()
        libpq.PQsetErrorVerbosity(connection.pgconn_ptr, _PQERRORS_SQLSTATE)
        has_answered = _try_login(connection)
        error = libpq.PQerrorMessage(connection.pgconn_ptr) or b""
    finally:
        connection.close()
    code = _SQLSTATE.search(error)
    if code is not None:
        return Refusal(code[1].decode())
    return Refusal(None) if has_answered else None


def _libpq() -> Any:
    """The libpq that psycopg2 is linked with."""
    libpq = ctypes.CDLL(_psycopg.__file__)
    libpq.PQsetErrorVerbosity.argtypes = (ctypes.c_void_p, ctypes.c_int)
    libpq.PQerrorMessage.argtypes = (ctypes.c_void_p,)
    libpq.PQerrorMessage.restype = ctypes.c_char_p
    return libpq


def _try_login(connection: Connection) -> bool:
    """Log in, until the server accepts or refuses it. Returns whether a server answered."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    has_answered = False
    with contextlib.suppress(psycopg2.Error, UnicodeError, TimeoutError):
        while (state := connection.poll()) != POLL_OK:
            wanted = select.POLLIN if state == POLL_READ else select.POLLOUT
            _wait(connection.fileno(), wanted, deadline - time.monotonic())
            has_answered = has_answered or (state == POLL_READ and _has_data(connection.fileno()))
    return has_answered


def _wait(descriptor: int, wanted: int, seconds: float) -> None:
    ready = select.poll()
    ready.register(descriptor, wanted)
    if not ready.poll(max(0.0, seconds) * 1000):
        raise TimeoutError


def _has_data(descriptor: int) -> bool:
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as peer:
        return bool(peer.recv(1, socket.MSG_PEEK))
    return False
