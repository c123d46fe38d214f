"""Callers need the token or, without one, must be on this machine."""

import json
from collections.abc import Iterator

import pytest

from vector_backup_pipeline_tests.api.serving import Served, served
from vector_backup_pipeline_tests.fix_api import BASE, app_of

TOKEN = "Geheim-4711~token"


@pytest.fixture(scope="module")
def with_token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(app_of(tmp_path_factory.mktemp("root"), api_token=TOKEN)) as running:
        yield running


@pytest.fixture(scope="module")
def without_token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(app_of(tmp_path_factory.mktemp("root"))) as running:
        yield running


def _is_let_in(
    running: Served, path: str, *headers: bytes, host: bytes | None = b"here", version: str = "1.1"
) -> bool:
    """Whether a request with only these headers is accepted; a refusal has the usual envelope."""
    lines = [] if host is None else [b"Host: " + host]
    answer = running.answer_to(f"GET {path} HTTP/{version}".encode(), *lines, *headers)
    assert TOKEN.encode() not in answer
    head, _, body = answer.partition(b"\r\n\r\n")
    if head.startswith(b"HTTP/1.1 400") and b"application/json" not in head:
        return False  # The server itself did not understand it.
    if not head.startswith(b"HTTP/1.1 401"):
        return True
    assert b"\r\nwww-authenticate: bearer" in head.lower()
    answer = json.loads(body)
    assert (answer["code"], answer["success"], answer["message"]) == (401, False, "未授权")
    assert answer["data"]["error_type"] == "UNAUTHORIZED"
    assert answer["data"]["response"] == "缺少访问令牌或令牌无效"
    assert "VECTOR_BACKUP_API_TOKEN" in answer["data"]["detail"]
    return False


@pytest.mark.parametrize(
    "header",
    [
        f"Authorization: Bearer {TOKEN}",
        f"authorization: bearer {TOKEN}",
        f"AUTHORIZATION: BEARER  {TOKEN} ",
    ],
)
def test_callers_with_the_token_are_let_in(with_token: Served, header: str) -> None:
    assert _is_let_in(with_token, "/api", header.encode())


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"Bearer",
        b"Bearer ",
        TOKEN.encode(),
        b"Bearer " + TOKEN.lower().encode(),
        b"Bearer " + TOKEN[:-1].encode(),
        b"Bearer " + TOKEN.encode() + b" x",
        b"Bearer=" + TOKEN.encode(),
        b"Basic " + TOKEN.encode(),
        b"Bearer " + TOKEN.encode() + b"\xff",
        b"Bearer \xc3\xa4\xff\xfe",
        b"Bearer " + b"x" * 30_000,
    ],
    ids=range(12),
)
def test_callers_without_the_token_are_not(with_token: Served, value: bytes) -> None:
    assert not _is_let_in(with_token, "/api", b"Authorization: " + value)


def test_callers_on_this_machine_need_the_token_too(with_token: Served) -> None:
    assert not _is_let_in(with_token, f"{BASE}/restore/list", host=b"localhost")
    assert not _is_let_in(with_token, f"/api?token={TOKEN[:-1]}", host=b"localhost")


@pytest.mark.parametrize("path", ["/healthz", "/healthz?x=/api", "/%68ealthz"])
def test_health_is_open_to_everybody(with_token: Served, without_token: Served, path: str) -> None:
    assert _is_let_in(with_token, path)
    assert _is_let_in(without_token, path, b"Origin: http://evil.com", host=b"evil.com")


@pytest.mark.parametrize(
    "path", ["/", "/docs", "/redoc", "/openapi.json", "/static-offline-docs/swagger-ui.css"]
)
def test_the_documentation_is_open_where_a_token_protects_the_calls(
    with_token: Served, without_token: Served, path: str
) -> None:
    assert _is_let_in(with_token, path)
    assert not _is_let_in(without_token, path, host=b"evil.com")


@pytest.mark.parametrize(
    "path",
    [
        *("/metrics", "/docs/", "/docs/../api", "/openapi.json/api", "/static-offline-docs"),
        *("/healthz/", "//healthz", "/healthz/../api", "/healthz/%2e%2e/api"),
        *("/healthz%2f..%2fapi", "/api/../healthz", "/healthz;/api", "/healthz%00"),
        *("/healthz%20", "/healthz%0a", "/HEALTHZ", "/%2fhealthz", "/%2568ealthz"),
        *("http://evil.com//healthz", "/api#/healthz", "/api?/healthz", "", "*"),
    ],
)
def test_no_path_that_resembles_an_open_one_is_open(
    with_token: Served, without_token: Served, path: str
) -> None:
    assert not _is_let_in(with_token, path)
    assert not _is_let_in(without_token, path, host=b"evil.com")


_OWN_NAMES = ["127.0.0.1", "127.8.9.10:1", "[::1]", "[::1]:8084", "localhost", "LocalHost:8084"]
_OTHER_NAMES = [
    *("evil.com", "evil.com:8084", "localhost.evil.com", "127.0.0.1.evil.com:8084"),
    *("evil.com.localhost", "notlocalhost", "localhost@evil.com", "127.0.0.1@evil.com"),
    *("192.168.0.7", "0.0.0.0", "[::]", "[2001:db8::1]:8084", "[::1"),  # noqa: S104 - refused
    *("2130706433", "127.1", ""),
]


@pytest.mark.parametrize("host", _OWN_NAMES)
def test_without_a_token_calls_to_a_loopback_name_are_answered(
    without_token: Served, host: str
) -> None:
    assert _is_let_in(without_token, "/api", host=host.encode())
    origin = f"Origin: http://{host}".encode()
    assert _is_let_in(without_token, "/api", origin, host=b"localhost:8084")
    assert _is_let_in(without_token, "/api", origin.replace(b"p:", b"ps:"), host=b"[::1]")


@pytest.mark.parametrize("host", _OTHER_NAMES)
def test_without_a_token_calls_to_another_name_are_not(without_token: Served, host: str) -> None:
    assert not _is_let_in(without_token, "/api", host=host.encode())
    header = b"Authorization: Bearer x"
    assert not _is_let_in(without_token, "/api", header, host=host.encode())


@pytest.mark.parametrize(
    "origin",
    [*(f"http://{name}" for name in _OTHER_NAMES), "null", "https://evil.com", "file://", "x"],
)
def test_without_a_token_pages_of_other_sites_are_not_answered(
    without_token: Served, origin: str
) -> None:
    header = b"Origin: " + origin.encode()
    assert not _is_let_in(without_token, "/api", header, host=b"127.0.0.1:8084")


def test_a_caller_that_names_no_host_is_no_browser(without_token: Served) -> None:
    assert _is_let_in(without_token, "/api", host=None, version="1.0")
    assert not _is_let_in(without_token, "/api", b"Origin: null", host=None, version="1.0")
