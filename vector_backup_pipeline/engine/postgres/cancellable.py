"""A connection whose `cancel` lets other threads run."""

from __future__ import annotations

import ctypes
import weakref
from functools import partial
from typing import Any

import psycopg2
import psycopg2._psycopg
from psycopg2.extensions import connection

from vector_backup_pipeline.engine.background import Work
from vector_backup_pipeline.engine.postgres import sql_ascii
from vector_backup_pipeline.engine.postgres.connection_strings import ConnectionSettings
from vector_backup_pipeline.engine.postgres.escaping_cursor import EscapingCursor
from vector_backup_pipeline.engine.postgres.lost_session import SessionCounts

_MESSAGE_BYTES = 256  # libpq's own advice
_ANSWER_SECONDS = 2.0


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

    # How it was opened, and what the server counted then.
    settings: ConnectionSettings | None = None
    counts: SessionCounts | None = None
    _handle: int | None = None
    _asking: Work[None] | None = None

    @classmethod
    def open(cls, **keywords: Any) -> CancellableConnection:
        """Connect as `psycopg2.connect` does."""
        # Not by an __init__: its frame would stay on the error of a connection that is refused,
        # and with it the connection, which the server would wait for.
        connect = partial(psycopg2.connect, connection_factory=cls, cursor_factory=EscapingCursor)
        opened: CancellableConnection = connect(**keywords)
        if opened.info.parameter_status("server_encoding") == sql_ascii.ENCODING:
            # Any other client encoding refuses bytes that it does not know. As a start-up
            # parameter, since poolers keep it apart from client to client.
            opened.close()
            sql_ascii.register_codec()
            opened = connect(**{**keywords, "client_encoding": sql_ascii.ENCODING})
        if _LIBPQ is not None and opened.pgconn_ptr is not None:
            # Now, since it can't be had safely while another thread closes the connection.
            opened._handle = _LIBPQ.PQgetCancel(opened.pgconn_ptr)
            weakref.finalize(opened, _LIBPQ.PQfreeCancel, opened._handle).atexit = False
        return opened

    def cancel(self) -> None:
        """Ask the server to cancel what goes on. Waits for its answer for some seconds only, since
        libpq knows no limit; while it is out, nothing is asked again."""
        if _LIBPQ is None or self._handle is None or self.closed:
            super().cancel()
            return
        asking = self._asking
        if asking is None:
            # Of a method, so that the handle is not freed meanwhile.
            asking = Work(partial(self._ask, _LIBPQ), "vector-backup-cancel")
            try:
                asking.start()
            except RuntimeError:  # No thread is to be had.
                self._ask(_LIBPQ)
                return
            self._asking = asking
        if asking.wait(_ANSWER_SECONDS):
            self._asking = None
            asking.outcome()

    def _ask(self, libpq: ctypes.CDLL) -> None:
        message = ctypes.create_string_buffer(_MESSAGE_BYTES)
        if not libpq.PQcancel(self._handle, message, _MESSAGE_BYTES):
            raise psycopg2.OperationalError(message.value.decode(errors="replace"))
