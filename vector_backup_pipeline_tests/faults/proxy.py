"""A TCP proxy in front of a server, which closes connections as a fault."""

import contextlib
import itertools
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from typing_extensions import Self

from vector_backup_pipeline_tests.fix_postgres import Database

LOOPBACK = "127.0.0.1"


class Listener:
    """Listens at a free port, and serves each connection in threads until the end of a block."""

    def __init__(self) -> None:
        self._listener = socket.create_server((LOOPBACK, 0))
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.port: int = self._listener.getsockname()[1]

    @contextmanager
    def serving(self) -> Iterator[Self]:
        thread = threading.Thread(target=self._accept_all)
        thread.start()
        try:
            yield self
        finally:
            self.stop_listening()
            # No connection is added from here on.
            thread.join()
            self.lose_all()
            for thread in self._threads:
                thread.join()
            for connection in self._sockets:
                connection.close()

    def _accept_all(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._sockets.append(client)
                self.serve(client)

    def serve(self, client: socket.socket) -> None:
        """Begin to serve a connection."""
        raise NotImplementedError

    def start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments)
        self._threads.append(thread)
        thread.start()

    def stop_listening(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def lose_all(self) -> None:
        """Close all current connections."""
        for connection in self._sockets:
            shut(connection)


class Proxy(Listener):
    """Forwards successive connections to `ports` in turn, and all later ones to the last port.

    With `loses_commit_before_server`, or `..._before_client`, the connection that has sent
    `commit_of` is closed during its COMMIT; with `deaf_afterwards` no later connection is
    accepted.

    As a pooler it accepts every login, but runs the statements of only `pool_size` connections.
    """

    def __init__(
        self,
        ports: Sequence[int],
        *,
        loses_commit_before_server: bool = False,
        loses_commit_before_client: bool = False,
        deaf_afterwards: bool = False,
        commit_of: bytes = b"TRUNCATE TABLE",
        pool_size: int | None = None,
    ) -> None:
        super().__init__()
        self._ports = itertools.chain(ports, itertools.repeat(ports[-1]))
        self._before_server = loses_commit_before_server
        self._before_client = loses_commit_before_client
        self._deaf_afterwards = deaf_afterwards
        self._commit_of = commit_of
        self._pool_size = pool_size
        self.has_cut = False

    def serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection((LOOPBACK, next(self._ports)))
        except OSError:
            shut(client)
            return
        self._sockets.append(server)
        is_in_pool = self._pool_size is None or len(self._sockets) <= 2 * self._pool_size
        link = _Link(client, server, is_in_pool)
        self.start(self._forward, link)
        self.start(self._answer, link)

    def _forward(self, link: "_Link") -> None:
        with contextlib.suppress(OSError):
            while data := link.client.recv(1 << 16):
                if not link.is_in_pool and data.startswith(b"Q"):
                    continue
                link.is_meant |= self._commit_of in data
                if link.is_meant and b"COMMIT\0" in data:
                    if self._before_server:
                        self._cut()
                        break
                    link.answer_is_lost = self._before_client
                link.server.sendall(data)
        link.end()

    def _answer(self, link: "_Link") -> None:
        with contextlib.suppress(OSError):
            while data := link.server.recv(1 << 16):
                if link.answer_is_lost:
                    self._cut()
                    break
                link.client.sendall(data)
        link.end()

    def _cut(self) -> None:
        self.has_cut = True
        if self._deaf_afterwards:
            self.stop_listening()

    def url(self, database: Database, user: str = "postgres") -> str:
        """To `database` through the proxy; the password is "p"."""
        database.run(f"ALTER ROLE {user} PASSWORD 'p'")
        return f"postgresql://{user}:p@{LOOPBACK}:{self.port}/{database.name}?sslmode=disable"


class _Link:
    """One connection: the client's side and the server's."""

    def __init__(self, client: socket.socket, server: socket.socket, is_in_pool: bool) -> None:
        self.client, self.server, self.is_in_pool = client, server, is_in_pool
        self.is_meant = False
        self.answer_is_lost = False

    def end(self) -> None:
        shut(self.client)
        shut(self.server)


def shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxy(*ports: int, **options: Any) -> Iterator[Proxy]:
    """A proxy that serves until the end of the block."""
    with Proxy(ports, **options).serving() as served:
        yield served
