"""A connection whose `cancel` lets other threads run."""

from __future__ import annotations

import ctypes
import weakref
from typing import Any

import psycopg2
import psycopg2._psycopg
from psycopg2.extensions import connection

_MESSAGE_BYTES = 256  # libpq's own advice


def _libpq() -> ctypes.CDLL | None:
    """The libpq that psycopg2 is linked with; None where its functions can't be found."""
    library = ctypes.CDLL(psycopg2._psycopg.__file__)
    try:
        library.PQgetCancel.argtypes = [ctypes.c_void_p]
        library.PQgetCancel.restype = ctypes.c_void_p
        library.PQcancel.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]
        library.PQfreeCancel.argtypes = [ctypes.c_void_p]
    except AttributeError:
        return None
    return library


_LIBPQ = _libpq()


class CancellableConnection(connection):
    """psycopg2 keeps the interpreter's lock while `cancel` connects and waits for the server: with
    a network that swallows packets the whole process, heartbeats and signals too, would stand
    still for minutes."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._handle: int | None = None
        if _LIBPQ is not None and self.pgconn_ptr is not None:
            # Now, since it can't be had safely while another thread closes the connection.
            self._handle = _LIBPQ.PQgetCancel(self.pgconn_ptr)
            weakref.finalize(self, _LIBPQ.PQfreeCancel, self._handle).atexit = False

    def cancel(self) -> None:
        if _LIBPQ is None or self._handle is None or self.closed:
            super().cancel()
            return
        message = ctypes.create_string_buffer(_MESSAGE_BYTES)
        if not _LIBPQ.PQcancel(self._handle, message, _MESSAGE_BYTES):
            raise psycopg2.OperationalError(message.value.decode(errors="replace"))
