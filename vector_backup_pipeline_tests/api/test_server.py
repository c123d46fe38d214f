"""`vector-backup serve`: address, access and shutdown."""

import contextlib
import importlib.util
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from vector_backup_pipeline.api import routes
from vector_backup_pipeline.api.server import Server
from vector_backup_pipeline.engine.errors import StorageError
from vector_backup_pipeline.settings import API_TOKEN_VARIABLE, PREFIX
from vector_backup_pipeline_tests.api.dagster_stand_in import StandIn
from vector_backup_pipeline_tests.api.serving import Served, served
from vector_backup_pipeline_tests.fix_api import BASE, app_of, serving
from vector_backup_pipeline_tests.fix_dagster import eventually
from vector_backup_pipeline_tests.fix_terminal import Terminal

TOKEN = "geheim-4711"
_ANYWHERE = "0.0.0.0"  # noqa: S104 - that it is refused is what is tested.
# The default number of concurrent storage calls.
_THREADS = 40


@pytest.fixture
def began(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[uvicorn.Config]:
    """The configurations of started services. `Server.run` is replaced."""
    begun: list[uvicorn.Config] = []

    def run(server: Server) -> None:
        begun.append(server.config)
        server.started = True

    monkeypatch.setattr(Server, "run", run)
    # Uvicorn's handlers would keep the standard error of this test, which is closed at its end.
    monkeypatch.setattr(uvicorn.Config, "configure_logging", lambda _: None)
    monkeypatch.delenv(API_TOKEN_VARIABLE, raising=False)
    return begun


@pytest.mark.parametrize(
    ("host", "token", "no_auth"),
    [
        ("localhost", False, False),
        ("::1", False, False),
        (_ANYWHERE, True, False),
        (_ANYWHERE, False, True),
    ],
)
def test_other_machines_are_served_with_a_token_or_no_auth(
    host: str,
    token: bool,
    no_auth: bool,
    began: list[uvicorn.Config],
    terminal: Terminal,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if token:
        monkeypatch.setenv(API_TOKEN_VARIABLE, TOKEN)

    called = terminal("serve", "--host", host, "--port", "8085", *["--no-auth"] * no_auth)

    assert TOKEN not in called.out + called.err
    (config,) = began
    assert (called.code, config.host, config.port) == (0, host, 8085)
    assert bool(config.app.user_middleware) == (not no_auth)  # type: ignore[union-attr]
    warning = f"who can reach {host} may back up, truncate, restore"
    assert (warning in caplog.text) == no_auth


@pytest.mark.parametrize("host", [_ANYWHERE, "::", "192.0.2.7"])
def test_other_machines_are_not_served_without_a_token(
    host: str, began: list[uvicorn.Config], terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = terminal("serve", "--host", host)
    assert (called.code, began) == (2, [])
    assert f"Set {API_TOKEN_VARIABLE}, or give --no-auth" in called.err

    monkeypatch.setenv(API_TOKEN_VARIABLE, TOKEN)
    both = terminal("serve", "--host", host, "--no-auth")
    assert (both.code, began) == (2, [])
    assert API_TOKEN_VARIABLE in both.err


def test_the_default_is_this_machine_and_an_invalid_port_is_refused(
    began: list[uvicorn.Config], terminal: Terminal
) -> None:
    assert terminal("serve").code == 0
    for port in ("65536", "http"):
        called = terminal("serve", "--port", port)
        assert (called.code, "--port" in called.err) == (2, True)
    assert [(config.host, config.port) for config in began] == [("127.0.0.1", 8084)]


def test_missing_packages_are_named_with_the_command_that_installs_them(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    missing = ("fastapi", "cryptography")
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in missing else find(name)
    )
    called = terminal("serve")
    assert called.code == 2
    assert "fastapi, cryptography" in called.err
    assert "pip install 'vector-backup-pipeline[api]'" in called.err


@pytest.fixture
def server(tmp_path: Path, dagster: StandIn) -> Iterator[Served]:
    with served(app_of(tmp_path, dagster_url=dagster.url)) as running:
        yield running


def test_a_storage_that_hangs_does_not_delay_calls_about_runs(
    server: Served, dagster: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go, hanging = threading.Event(), []

    def hang(*_: Any, **__: Any) -> Any:
        hanging.append(let_go)
        let_go.wait(60)
        raise StorageError("It hung.")

    monkeypatch.setattr(routes, "find_locations", hang)
    run_id = dagster.add()
    with contextlib.ExitStack() as stack:
        stack.callback(let_go.set)
        for _ in range(_THREADS + 5):
            line = f"GET {BASE}/restore/list HTTP/1.1".encode()
            stack.enter_context(server.send(line, b"Host: localhost"))
        eventually(lambda: len(hanging) >= _THREADS, "as many calls of the storage as there may be")

        with httpx.Client(base_url=server.url, timeout=5) as http:
            assert http.get(f"{BASE}/backup/{run_id}").status_code == 200
            assert http.get("/healthz").status_code == 200


def test_a_port_in_use_ends_it_with_a_clear_message(
    root: Path,
    terminal: Terminal,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(uvicorn.Config, "configure_logging", lambda _: None)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        called = terminal("serve", "--port", str(port))

    assert (called.code, "Traceback" in called.err) == (1, False)
    assert "address already in use" in caplog.text
    assert str(port) in caplog.text


def test_it_ends_at_once_when_asked_and_answers_callers_who_wait_for_a_run(
    tmp_path: Path, dagster: StandIn
) -> None:
    with serving(tmp_path, dagster.url, {PREFIX + "ROOT": str(tmp_path)}) as api:
        waiting = Served(api.port).send(
            f"POST {BASE}/backup HTTP/1.1".encode(), b"Host: localhost", b"Content-Length: 0"
        )
        with waiting, waiting.makefile("rb") as answer:
            eventually(lambda: dagster.count("Runs") > 1, "the API's waiting")
            began = time.monotonic()
            api.process.send_signal(signal.SIGTERM)
            received = answer.read()
        assert api.process.wait(30) == 0
        assert time.monotonic() - began < 8

    assert "Traceback" not in api.log.read_text()
    (run_id,) = dagster.runs
    assert received.startswith(b"HTTP/1.1 503")
    assert run_id.encode() in received
    assert b"being stopped" in received
    assert dagster.runs[run_id].status == "CANCELED"
