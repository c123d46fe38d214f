"""`vector-backup serve`: where it listens and for whom, and how it ends."""

import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest

from vector_backup_pipeline.api import server
from vector_backup_pipeline.api.routes import files
from vector_backup_pipeline.embedded import find_free_port
from vector_backup_pipeline.engine.errors import StorageError
from vector_backup_pipeline.settings import API_TOKEN_VARIABLE, PREFIX, load_settings
from vector_backup_pipeline_tests.api.dagster_stand_in import StandIn
from vector_backup_pipeline_tests.fix_api import BASE
from vector_backup_pipeline_tests.fix_dagster import CHECKOUT, eventually
from vector_backup_pipeline_tests.fix_process import child
from vector_backup_pipeline_tests.fix_terminal import Terminal

TOKEN = "geheim-4711"
_ANYWHERE = "0.0.0.0"  # noqa: S104 - that it is refused is what is tested.
# That a server's calls of a storage have, by default.
_THREADS = 40
_SERVE = "from vector_backup_pipeline.cli import main; main()"


@pytest.fixture
def began(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """With what each service began; none really does."""
    begun: list[dict[str, Any]] = []

    class NoServer:
        started = True

        def __init__(self, config: Any) -> None:
            kinds = {each.cls.__name__ for each in config.app.user_middleware}
            begun.append({"host": config.host, "port": config.port, "guards": kinds})

        def run(self) -> None: ...

    monkeypatch.setattr(server, "_Server", NoServer)
    monkeypatch.delenv(API_TOKEN_VARIABLE, raising=False)
    return begun


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "::1", _ANYWHERE, "::", "192.0.2.7", ""]
)
@pytest.mark.parametrize("token", [True, False])
@pytest.mark.parametrize("no_auth", [True, False])
def test_nobody_listens_to_strangers_without_a_token_unless_told_to(
    host: str,
    token: bool,
    no_auth: bool,
    began: list[dict[str, Any]],
    terminal: Terminal,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if token:
        monkeypatch.setenv(API_TOKEN_VARIABLE, TOKEN)
    is_local = host in ("127.0.0.1", "localhost", "::1")

    called = terminal("serve", "--host", host, "--port", "8085", *["--no-auth"] * no_auth)

    assert TOKEN not in called.out + called.err
    if token and no_auth:
        assert (called.code, began) == (2, [])
        assert API_TOKEN_VARIABLE in called.err
    elif not (token or no_auth or is_local):
        assert (called.code, began) == (2, [])
        assert f"Set {API_TOKEN_VARIABLE}, or give --no-auth" in called.err
    else:
        guard = {"TokenRequired"} if token else set() if no_auth else {"ThisMachineOnly"}
        assert called.code == 0
        assert began == [{"host": host, "port": 8085, "guards": guard}]


@pytest.fixture
def serving(root: Path, dagster: StandIn, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of a service as `serve` sets it up, in a thread of this process."""
    monkeypatch.setenv(PREFIX + "DAGSTER_URL", dagster.url)
    monkeypatch.delenv(API_TOKEN_VARIABLE, raising=False)
    begun: list[server._Server] = []

    class Noticed(server._Server):
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            begun.append(self)

    monkeypatch.setattr(server, "_Server", Noticed)
    port = find_free_port()
    thread = threading.Thread(
        target=server.serve,
        args=(load_settings(),),
        kwargs={"host": "127.0.0.1", "port": port, "no_auth": False},
    )
    thread.start()
    try:
        eventually(lambda: not thread.is_alive() or any(each.started for each in begun), "the API")
        yield port
    finally:
        for each in begun:
            each.should_exit = True
        thread.join(60)
        assert not thread.is_alive()


@pytest.mark.parametrize(
    ("beginning", "line"),
    [
        ("GET /healthz HTTP/1.1\r\nHost: localhost\r\n", "X: y\r\n"),
        (
            f"POST {BASE}/backup HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
            "1\r\n[\r\n0\r\n",
            "X: y\r\n",
        ),
    ],
    ids=["headers", "trailers"],
)
def test_headers_and_trailers_without_end_are_not_kept(
    beginning: str, line: str, serving: int
) -> None:
    with socket.create_connection(("127.0.0.1", serving), timeout=5) as caller:
        caller.sendall(beginning.encode())
        # Ended from the other side: by its answer, or, as not all was read, by force.
        try:
            caller.sendall(line.encode() * 50_000)
            while caller.recv(65536):
                pass
        except ConnectionError:
            pass


def test_who_asks_for_a_run_does_not_wait_for_a_storage_that_hangs(
    serving: int, dagster: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go, hanging = threading.Event(), []

    def hang(*_: Any, **__: Any) -> Any:
        hanging.append(let_go)
        let_go.wait(60)
        raise StorageError("It hung.")

    monkeypatch.setattr(files, "list_backups", hang)
    run_id = dagster.add()
    ask = f"GET {BASE}/restore/list HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with contextlib.ExitStack() as stack:
        stack.callback(let_go.set)
        for _ in range(_THREADS + 5):
            caller = stack.enter_context(socket.create_connection(("127.0.0.1", serving), 20))
            caller.sendall(ask)
        eventually(lambda: len(hanging) >= _THREADS, "as many calls of the storage as there may be")

        with httpx.Client(base_url=f"http://127.0.0.1:{serving}", timeout=5) as http:
            assert http.get(f"{BASE}/backup/{run_id}").status_code == 200
            assert http.get("/healthz").status_code == 200


def test_by_default_it_listens_to_this_machine(
    began: list[dict[str, Any]], terminal: Terminal
) -> None:
    assert terminal("serve").code == 0
    assert began == [{"host": "127.0.0.1", "port": 8084, "guards": {"ThisMachineOnly"}}]


def test_that_everybody_may_call_is_said_aloud(
    began: list[dict[str, Any]], terminal: Terminal, caplog: pytest.LogCaptureFixture
) -> None:
    terminal("serve", "--host", _ANYWHERE, "--no-auth")
    assert "whoever reaches 0.0.0.0 may back up, truncate, restore" in caplog.text


@pytest.mark.parametrize("port", ["0", "65536", "99999", "-1", "http"])
def test_a_port_that_is_none_is_refused(
    port: str, began: list[dict[str, Any]], terminal: Terminal
) -> None:
    called = terminal("serve", "--port", port)
    assert (called.code, began) == (2, [])
    assert "--port" in called.err


def test_a_setting_that_makes_no_sense_is_named_before_anything_begins(
    began: list[dict[str, Any]], terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PREFIX + "DAGSTER_URL", "dagster:hunter2")
    called = terminal("serve")
    assert (called.code, began) == (2, [])
    assert PREFIX + "DAGSTER_URL" in called.err
    assert "hunter2" not in called.err


def test_missing_packages_are_named_with_what_installs_them(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    missing = ("fastapi", "cryptography")
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in missing else find(name)
    )
    called = terminal("serve")
    assert called.code == 2
    assert "The API needs fastapi, cryptography, not installed here" in called.err
    assert "pip install 'vector-backup-pipeline[api]'" in called.err


def _process(
    tmp_path: Path, port: int, dagster_url: str = "http://127.0.0.1:1"
) -> AbstractContextManager[subprocess.Popen[str]]:
    return child(
        [sys.executable, "-c", _SERVE, "serve", "--port", str(port)],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        | {
            "PYTHONPATH": str(CHECKOUT),
            PREFIX + "ROOT": str(tmp_path),
            PREFIX + "DAGSTER_URL": dagster_url,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def test_a_port_in_use_ends_it_with_a_clear_message(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with _process(tmp_path, port) as process:
            told, _ = process.communicate(timeout=30)

    assert process.returncode == 1
    assert "address already in use" in told
    assert str(port) in told
    assert "Traceback" not in told


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_it_ends_at_once_when_asked_and_tells_who_waits_for_a_run(
    tmp_path: Path, dagster: StandIn, number: signal.Signals
) -> None:
    dagster.delay = 0.01
    port = find_free_port()
    with (
        _process(tmp_path, port, dagster.url) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as http,
    ):
        eventually(lambda: process.poll() is not None or _answers(http), "the API")
        assert process.poll() is None

        with socket.create_connection(("127.0.0.1", port), timeout=30) as waiting:
            waiting.sendall(f"POST {BASE}/backup HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            eventually(lambda: dagster.count("Statuses") > 1, "the API's waiting")
            began = time.monotonic()
            process.send_signal(number)
            with waiting.makefile("rb") as answer:
                told = answer.read()
        output, _ = process.communicate(timeout=30)

    assert time.monotonic() - began < 8
    assert process.returncode == 0, output
    assert "Traceback" not in output
    (run_id,) = dagster.runs
    assert told.startswith(b"HTTP/1.1 503")
    assert run_id.encode() in told
    assert b"being stopped" in told


def _answers(http: httpx.Client) -> bool:
    try:
        http.get("/healthz")
    except httpx.TransportError:
        return False
    return True
