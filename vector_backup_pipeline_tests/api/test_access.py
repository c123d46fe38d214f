"""Who may call: whoever knows the token, or else this machine alone."""

import json
import socket
from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from vector_backup_pipeline.api.access import ThisMachineOnly, TokenRequired, is_loopback
from vector_backup_pipeline.engine.secrets import SecretText
from vector_backup_pipeline_tests.api.serving import LOOPBACK, Served, served

TOKEN = "Geheim-4711~token"
_OPEN, _KEPT = b"Healthy.", b"Kept from strangers."


def _health(_: Request) -> Response:
    return PlainTextResponse(_OPEN)


def _everything(_: Request) -> Response:
    return PlainTextResponse(_KEPT)


def _app() -> Starlette:
    return Starlette(routes=[Route("/healthz", _health), Route("/{path:path}", _everything)])


@pytest.fixture(scope="module")
def with_token() -> Iterator[Served]:
    with served(TokenRequired(_app(), SecretText(TOKEN))) as running:
        yield running


@pytest.fixture(scope="module")
def without_token() -> Iterator[Served]:
    with served(ThisMachineOnly(_app())) as running:
        yield running


def _ask(running: Served, path: str, *headers: bytes, host: bytes | None = b"here") -> bytes:
    """The whole answer to a request of just these headers, byte by byte as they are here."""
    named = [] if host is None else [b"Host: " + host]
    version = b"1.0" if host is None else b"1.1"
    lines = [b"GET " + path.encode() + b" HTTP/" + version, *named, *headers, b"Connection: close"]
    with socket.create_connection((LOOPBACK, running.port), timeout=20) as connection:
        connection.sendall(b"\r\n".join([*lines, b"", b""]))
        with connection.makefile("rb") as answer:
            return answer.read()


def _is_let_in(answer: bytes) -> bool:
    """Whether it was; if not, the answer says so in the one form and tells nothing else."""
    if answer.endswith(_KEPT):
        return True
    assert TOKEN.encode() not in answer
    assert _KEPT not in answer
    if answer.startswith(b"HTTP/1.1 400"):  # The server itself did not understand it.
        return False
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 401")
    assert b"\r\nwww-authenticate: bearer" in head.lower()
    told = json.loads(body)
    assert (told["code"], told["success"], told["message"]) == (401, False, "未授权")
    assert told["data"]["error_type"] == "UNAUTHORIZED"
    assert told["data"]["response"]
    assert "VECTOR_BACKUP_API_TOKEN" in told["data"]["detail"]
    return False


@pytest.mark.parametrize(
    "header",
    [
        f"Authorization: Bearer {TOKEN}",
        f"authorization: bearer {TOKEN}",
        f"AUTHORIZATION: BEARER  {TOKEN} ",
    ],
)
def test_who_knows_the_token_is_let_in(with_token: Served, header: str) -> None:
    assert _is_let_in(_ask(with_token, "/api", header.encode()))


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"Bearer",
        b"Bearer ",
        TOKEN.encode(),
        b"Bearer " + TOKEN.lower().encode(),
        b"Bearer " + TOKEN[:-1].encode(),
        b"Bearer " + TOKEN.encode() + b"x",
        b"Bearer " + TOKEN.encode() + b" x",
        b"Bearer x " + TOKEN.encode(),
        b"Bearer" + TOKEN.encode(),
        b"Bearer=" + TOKEN.encode(),
        b"Basic " + TOKEN.encode(),
        b"Token " + TOKEN.encode(),
        b"Bearer " + TOKEN.encode() + b"\xff",
        b"Bearer \xc3\xa4\xff\xfe",
        b"\xff",
        b"Bearer " + b"x" * 30_000,
    ],
    ids=range(17),
)
def test_who_does_not_know_it_is_not(with_token: Served, value: bytes) -> None:
    assert not _is_let_in(_ask(with_token, "/api", b"Authorization: " + value))


def test_who_sends_nothing_is_not_let_in_from_this_machine_either(with_token: Served) -> None:
    assert not _is_let_in(_ask(with_token, "/api", host=b"localhost"))
    assert not _is_let_in(_ask(with_token, f"/api?token={TOKEN[:-1]}"))


@pytest.mark.parametrize("path", ["/healthz", "/healthz?x=/api", "/%68ealthz"])
def test_health_is_open_to_everybody(with_token: Served, without_token: Served, path: str) -> None:
    assert _ask(with_token, path).endswith(_OPEN)
    assert _ask(without_token, path, b"Origin: http://evil.com", host=b"evil.com").endswith(_OPEN)


@pytest.mark.parametrize(
    "path", ["/", "/docs", "/redoc", "/openapi.json", "/static-offline-docs/swagger-ui.css"]
)
def test_the_documentation_is_open_to_everybody_where_a_token_protects_the_calls(
    with_token: Served, without_token: Served, path: str
) -> None:
    assert _is_let_in(_ask(with_token, path))
    assert not _is_let_in(_ask(without_token, path, host=b"evil.com"))


@pytest.mark.parametrize(
    "path",
    [
        "/docs/",
        "/docs/../api",
        "/openapi.json/api",
        "/static-offline-docs",
        "/healthz/",
        "//healthz",
        "/healthz//",
        "/healthz/../api",
        "/healthz/%2e%2e/api",
        "/healthz%2Fapi",
        "/healthz%2f..%2fapi",
        "/api/../healthz",
        "/./healthz",
        "/healthz;/api",
        "/healthz%00",
        "/healthz%20",
        "/healthz%3F",
        "/healthz%0a",
        "/HEALTHZ",
        "/%2fhealthz",
        "/%2568ealthz",
        "http://evil.com//healthz",
        "/api#/healthz",
        "/api?/healthz",
        "",
        "*",
    ],
)
def test_nothing_that_looks_like_health_lets_anybody_past(
    with_token: Served, without_token: Served, path: str
) -> None:
    assert not _is_let_in(_ask(with_token, path))
    assert not _is_let_in(_ask(without_token, path, host=b"evil.com"))


_OWN_NAMES = [
    "127.0.0.1",
    "127.0.0.1:8084",
    "127.8.9.10:1",
    "[::1]",
    "[::1]:8084",
    "localhost",
    "localhost:8084",
    "LocalHost:8084",
]
_OTHER_NAMES = [
    "evil.com",
    "evil.com:8084",
    "localhost.evil.com",
    "127.0.0.1.evil.com",
    "127.0.0.1.evil.com:8084",
    "evil.com.localhost",
    "notlocalhost",
    "localhost@evil.com",
    "127.0.0.1@evil.com",
    "192.168.0.7",
    "0.0.0.0",  # noqa: S104 - it is refused.
    "[::]",
    "[2001:db8::1]:8084",
    "[::1",
    "2130706433",
    "127.1",
    "",
]


@pytest.mark.parametrize("host", _OWN_NAMES)
def test_without_a_token_this_machine_is_answered_by_its_own_names(
    without_token: Served, host: str
) -> None:
    assert _is_let_in(_ask(without_token, "/api", host=host.encode()))
    origin = f"Origin: http://{host}".encode()
    assert _is_let_in(_ask(without_token, "/api", origin, host=b"localhost:8084"))
    assert _is_let_in(_ask(without_token, "/api", origin.replace(b"p:", b"ps:"), host=b"[::1]"))


@pytest.mark.parametrize("host", _OTHER_NAMES)
def test_without_a_token_no_other_name_is_answered(without_token: Served, host: str) -> None:
    assert not _is_let_in(_ask(without_token, "/api", host=host.encode()))


@pytest.mark.parametrize(
    "origin",
    [*(f"http://{name}" for name in _OTHER_NAMES), "null", "https://evil.com", "file://", "x"],
)
def test_without_a_token_no_page_of_another_site_is_answered(
    without_token: Served, origin: str
) -> None:
    header = b"Origin: " + origin.encode()
    assert not _is_let_in(_ask(without_token, "/api", header, host=b"127.0.0.1:8084"))


def test_without_a_host_it_is_no_browser_and_is_answered(without_token: Served) -> None:
    assert _is_let_in(_ask(without_token, "/api", host=None))
    assert not _is_let_in(_ask(without_token, "/api", b"Origin: null", host=None))


def test_a_token_does_not_open_an_api_that_has_none(without_token: Served) -> None:
    header = b"Authorization: Bearer x"
    assert not _is_let_in(_ask(without_token, "/api", header, host=b"evil.com"))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_the_loopback_is_this_machine_alone(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "::", *(name for name in _OTHER_NAMES if "[" not in name)])
def test_any_other_host_can_be_reached_from_elsewhere(host: str) -> None:
    assert not is_loopback(host)
