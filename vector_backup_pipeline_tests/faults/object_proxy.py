"""A proxy in front of an object store, which injects faults."""

import contextlib
import re
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from vector_backup_pipeline_tests.faults.proxy import LOOPBACK, Listener, shut

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_CONDITION = re.compile(rb"(?i)\r\nif-(?:none-)?match:[^\r]*")
_CONNECTION = re.compile(rb"(?i)\r\nconnection:[^\r]*")


@dataclass(frozen=True)
class Fault:
    """A fault of a request: one of these."""

    status: int | None = None
    """It does not reach the server; this is the answer."""
    is_cut: bool = False
    """It does not reach the server; the connection ends."""
    is_reset: bool = False
    """It does not reach the server; the connection is reset."""
    answer_is_lost: bool = False
    """It reaches the server; the connection ends without an answer."""
    answer_ends_after: int | None = None
    """Its answer ends, with the connection, after so many bytes."""
    happens: Callable[[], object] | None = None
    """This is done before it reaches the server."""


class ObjectProxy(Listener):
    """Forwards requests to the server, each on its own connection.

    `fault` is called for each request with its first line, such as
    `PUT /bucket/key?partNumber=1 HTTP/1.1`.
    """

    def __init__(self, endpoint: str) -> None:
        super().__init__()
        parts = urlsplit(endpoint)
        self._server = (parts.hostname or "", parts.port or 80)
        self.url = f"http://{LOOPBACK}:{self.port}"
        self.refuses_conditions = False
        self.fault: Callable[[str], Fault | None] = lambda _: None

    def does(self, fault: Fault, to: Callable[[str], bool], times: int | None = None) -> None:
        """Inject the fault into the first `times` requests for which `to` is true, or into all."""
        left = [times]
        lock = threading.Lock()

        def choose(request: str) -> Fault | None:
            with lock:
                if left[0] == 0 or not to(request):
                    return None
                if left[0] is not None:
                    left[0] -= 1
                return fault

        self.fault = choose

    def serve(self, client: socket.socket) -> None:
        self.start(self._pass_on, client)

    def _pass_on(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client.makefile("rb") as reader:
            while (head := _head(reader.readline)) is not None:
                length = _LENGTH.search(head)
                body = reader.read(int(length[1])) if length else b""
                request = head.partition(b"\r\n")[0].decode()
                if not self._answer(client, head, body, self.fault(request) or Fault()):
                    break
        shut(client)

    def _answer(self, client: socket.socket, head: bytes, body: bytes, fault: Fault) -> bool:
        """False if the connection should be closed."""
        if fault.is_cut:
            return False
        if fault.is_reset:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            return False
        if fault.status is not None:
            return _send_status(client, fault.status)
        if fault.happens is not None:
            fault.happens()
        if self.refuses_conditions and head.startswith(b"PUT ") and _CONDITION.search(head):
            return _send_status(client, 501)
        with socket.create_connection(self._server, timeout=60) as server:
            server.sendall(_CONNECTION.sub(b"", head)[:-2] + b"connection: close\r\n\r\n" + body)
            answer = b"".join(iter(lambda: server.recv(1 << 16), b""))
        return not fault.answer_is_lost and _send(client, answer, fault.answer_ends_after)


def _head(readline: Callable[[], bytes]) -> bytes | None:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = readline()
        if not line:
            return None
        head += line
    return head


def _send_status(client: socket.socket, status: int) -> bool:
    client.sendall(f"HTTP/1.1 {status} Fault\r\ncontent-length: 0\r\n\r\n".encode())
    return True


def _send(client: socket.socket, answer: bytes, most: int | None) -> bool:
    """Without the server's `Connection: close`: the client's connection stays open."""
    head, _, body = answer.partition(b"\r\n\r\n")
    answer = _CONNECTION.sub(b"", head) + b"\r\n\r\n" + body
    client.sendall(answer[:most])
    return most is None or len(answer) <= most
