"""A stored file over HTTP: whole, in parts, or not at all."""

import dataclasses
import logging
import os
import socket
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import httpx
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from vector_backup_pipeline.api.downloads import parse_range
from vector_backup_pipeline.api.errors import RangeNotSatisfiable
from vector_backup_pipeline.engine.errors import StorageError
from vector_backup_pipeline.engine.file_names import LOG_NAME, manifest_name
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.engine.storage.store import CHUNK_BYTES
from vector_backup_pipeline_tests.api.serving import Served, served
from vector_backup_pipeline_tests.fix_api import BASE, app_of

STAMP = "20250101_000000"
FILE = f"t_{STAMP}.csv"
FILES = f"{BASE}/backup/files"
URL = f"{FILES}/{STAMP}/{FILE}"
# More than two chunks of a read.
DATA = bytes(range(256)) * 10_000 + b"the end\n"


@pytest.fixture(params=["local", "s3"])
def any_store(request: pytest.FixtureRequest) -> tuple[BackupRoot, FastAPI]:
    """A set of one file, in each store, and the application with that root."""
    path = request.getfixturevalue("tmp_path")
    return _with_set(path if request.param == "local" else request.getfixturevalue("bucket").url)


@pytest.fixture
def any_client(any_store: tuple[BackupRoot, FastAPI]) -> Iterator[TestClient]:
    with _client(any_store[1]) as client:
        yield client


@pytest.fixture
def directory(tmp_path: Path) -> BackupDirectory:
    return _with_set(tmp_path)[0].open(None)


@pytest.fixture
def client(directory: BackupDirectory, tmp_path: Path) -> Iterator[TestClient]:
    with _client(app_of(tmp_path)) as client:
        yield client


@pytest.fixture
def server(directory: BackupDirectory, tmp_path: Path) -> Iterator[Served]:
    with served(app_of(tmp_path)) as running:
        yield running


def _with_set(location: Any) -> tuple[BackupRoot, FastAPI]:
    root = BackupRoot(str(location), "vector_bak")
    directory = root.open(None)
    directory.replace(FILE, DATA)
    directory.replace(manifest_name(STAMP), b"{}")
    return root, app_of(location)


def _client(app: FastAPI) -> TestClient:
    return TestClient(app, base_url="http://localhost")


def _request(server: Served, path: str) -> socket.socket:
    return server.send(f"GET {path} HTTP/1.1".encode(), b"Host: localhost")


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=5-9", 5, 9),
        ("bytes=5-100", 5, 99),
        ("bytes=-" + "9" * 18, 0, 99),
        ("BYTES=005-9 ", 5, 9),
    ],
)
def test_one_range_is_a_part(text: str, first: int, last: int) -> None:
    assert parse_range(text, 100) == range(first, last + 1)


@pytest.mark.parametrize(
    "text",
    [
        *("", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=9-5", "bytes=1-2,4-5"),
        *("bytes=-1-2", "bytes=+1-2", "bytes =1-2", "bytes=1.0-2", "bytes=１-２", "rows=1-2"),
        "bytes=0-" + "9" * 5000,
    ],
)
def test_several_or_invalid_ranges_are_the_whole_file(text: str) -> None:
    assert parse_range(text, 100) is None


@pytest.mark.parametrize(
    ("text", "size"),
    [("bytes=100-", 100), ("bytes=100-200", 100), ("bytes=-0", 100), ("bytes=0-", 0)],
)
def test_a_range_outside_of_the_file_cannot_be_satisfied(text: str, size: int) -> None:
    with pytest.raises(RangeNotSatisfiable, match=f"{size} bytes") as raised:
        parse_range(text, size)
    assert raised.value.size == size


def test_a_file_comes_whole_and_head_has_its_headers(any_client: TestClient) -> None:
    answer = any_client.get(URL)
    head = any_client.head(URL, headers={"Range": f"bytes={len(DATA)}-"})

    assert (answer.status_code, answer.content) == (200, DATA)
    assert (head.status_code, head.content, head.headers) == (200, b"", answer.headers)
    tag = answer.headers.pop("etag")
    assert tag.startswith('"') and tag.endswith('"')
    assert dict(answer.headers) == {
        "accept-ranges": "bytes",
        "cache-control": "private, no-cache",
        "content-disposition": f'attachment; filename="{FILE}"',
        "content-length": str(len(DATA)),
        "content-type": "text/csv; charset=utf-8",
        "x-content-type-options": "nosniff",
    }


@pytest.mark.parametrize(
    ("requested", "first", "last"),
    [("1048575-1048576", 1048575, 1048576), ("-8", len(DATA) - 8, len(DATA) - 1)],
)
def test_a_part_of_a_file_comes_alone(
    client: TestClient, requested: str, first: int, last: int
) -> None:
    answer = client.get(URL, headers={"Range": f"bytes={requested}"})
    assert (answer.status_code, answer.content) == (206, DATA[first : last + 1])
    assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(DATA)}"
    assert answer.headers["content-length"] == str(last - first + 1)
    assert answer.headers["etag"] == client.head(URL).headers["etag"]


def test_a_range_outside_of_the_file_is_refused_with_its_size(client: TestClient) -> None:
    answer = client.get(URL, headers={"Range": f"bytes={len(DATA)}-"})
    body = answer.json()
    assert (answer.status_code, body["message"]) == (416, "请求范围无效")
    assert body["data"]["error_type"] == "RANGE_NOT_SATISFIABLE"
    assert answer.headers["content-range"] == f"bytes */{len(DATA)}"


def test_an_empty_file_is_a_file(client: TestClient, directory: BackupDirectory) -> None:
    directory.replace(FILE, b"")
    for headers in ({}, {"Range": "bytes=-5"}):
        answer = client.get(URL, headers=headers)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-length"] == "0"
    assert client.get(URL, headers={"Range": "bytes=0-"}).status_code == 416


def test_a_known_version_is_not_sent_again(client: TestClient) -> None:
    tag = client.get(URL).headers["etag"]
    for known in (tag, f'"other", W/{tag}', "*"):
        headers = {"If-None-Match": known, "Range": "bytes=0-1"}
        for answer in (client.get(URL, headers=headers), client.head(URL, headers=headers)):
            assert (answer.status_code, answer.content) == (304, b"")
            assert answer.headers["etag"] == tag
    for other in ('"other"', tag.strip('"'), tag[:-1], '"x, *"'):
        assert client.get(URL, headers={"If-None-Match": other}).content == DATA


def test_a_changed_file_is_another_version_and_no_part_of_it_is_mixed_in(
    any_client: TestClient, any_store: tuple[BackupRoot, FastAPI]
) -> None:
    tag = any_client.get(URL).headers["etag"]
    headers = {"Range": "bytes=3-", "If-Range": tag}
    part = any_client.get(URL, headers=headers)
    assert (part.status_code, part.content) == (206, DATA[3:])

    any_store[0].open(None).replace(FILE, DATA[::-1])

    for other in (tag, f"W/{tag}", "Wed, 21 Oct 2015 07:28:00 GMT"):
        whole = any_client.get(URL, headers={"Range": "bytes=3-", "If-Range": other})
        assert (whole.status_code, whole.content) == (200, DATA[::-1])
        assert whole.headers["etag"] != tag
    assert any_client.get(URL, headers={"If-None-Match": tag}).status_code == 200


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        (f"t_{STAMP}.csv", "text/csv; charset=utf-8"),
        (f"t_{STAMP}.csv.gz", "application/gzip"),
        (f"t_{STAMP}.pgcopy", "application/octet-stream"),
        (f"t_{STAMP}.pgcopy.zst", "application/zstd"),
        (manifest_name(STAMP), "application/json"),
        (LOG_NAME, "text/plain; charset=utf-8"),
    ],
)
def test_every_kind_of_file_has_its_media_type(
    client: TestClient, directory: BackupDirectory, name: str, media_type: str
) -> None:
    directory.replace(name, b"as it is stored")
    answer = client.get(f"{FILES}/{STAMP}/{name}", headers={"Accept-Encoding": "gzip, zstd"})
    assert answer.content == b"as it is stored"
    assert answer.headers["content-type"] == media_type
    assert "content-encoding" not in answer.headers


def test_a_name_arrives_as_it_is(any_store: tuple[BackupRoot, FastAPI]) -> None:
    root, app = any_store
    names = ["a%2Fb", "100%25", "schön 表", 'x"; filename="y', "it's (1)*"]
    if root.location.startswith("/"):
        # Not a valid object name; the older system accepted any name.
        names.append("a\r\nSet-Cookie: b")
    # The test client would decode the name twice.
    with served(app) as server:
        for name in names:
            file = f"{name}_{STAMP}.csv"
            root.open(None).replace(file, name.encode())
            answer = httpx.get(f"{server.url}{FILES}/{STAMP}/{quote(file)}")
            assert answer.content == name.encode()
            assert "set-cookie" not in answer.headers
            kind, _, exact = answer.headers["content-disposition"].partition("; filename*=UTF-8''")
            assert (kind, unquote(exact)) == ("attachment", file)
            assert exact.isascii()
            assert not set(exact) & set(" \"'();*,/\\")


def test_no_spelling_of_a_path_leads_out(
    server: Served, directory: BackupDirectory, tmp_path: Path
) -> None:
    secret = tmp_path / f"secret_{STAMP}.csv"
    secret.write_text("id\r\nSECRET\r\n")
    link = Path(directory.location) / f"link_{STAMP}.csv"
    link.symlink_to(secret)
    for name in (
        f"../{secret.name}",
        f"..%2F{secret.name}",
        f"..%252F{secret.name}",
        f"%2e%2e/{secret.name}",
        f"..%5C{secret.name}",
        quote(str(secret), safe=""),
        f"{secret.name}%00",
        f"%ff{secret.name}",
        f"%ED%B2%80{secret.name}",
        link.name,
    ):
        answer = server.answer_to(
            f"GET {FILES}/{STAMP}/{name} HTTP/1.1".encode(), b"Host: localhost"
        )
        assert answer.startswith(b"HTTP/1.1 404 "), name
        assert b"SECRET" not in answer


def test_an_error_before_the_first_byte_is_an_answer(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> Iterator[bytes]:
        raise StorageError("Could not read: Input/output error.")

    monkeypatch.setattr(BackupDirectory, "read", refuse)
    answer = client.get(URL)
    assert answer.status_code == 500
    assert answer.json()["data"]["error_type"] == "STORAGE_ERROR"
    assert "Input/output error" in answer.json()["data"]["detail"]


def test_a_file_that_was_removed_before_it_is_opened_is_not_found(
    client: TestClient, directory: BackupDirectory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _before_reading(monkeypatch, lambda: directory.delete(FILE))
    assert client.get(URL).status_code == 404

    def put_link() -> None:
        (tmp_path / "secret").write_bytes(DATA)
        directory.delete(FILE)
        (Path(directory.location) / FILE).symlink_to(tmp_path / "secret")

    directory.replace(FILE, DATA)
    _before_reading(monkeypatch, put_link)
    assert client.get(URL).status_code == 404


def test_a_file_that_was_replaced_before_it_is_opened_must_be_requested_again(
    client: TestClient, directory: BackupDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    _before_reading(monkeypatch, lambda: directory.replace(FILE, DATA[::-1]))
    answer = client.get(URL)
    assert answer.status_code == 500
    assert answer.json()["data"]["can_retry"] is True
    assert client.get(URL).content == DATA[::-1]


def test_a_download_that_fails_midway_is_shorter_than_announced(
    server: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    read = BackupDirectory.read

    def fail(directory: BackupDirectory, *arguments: int) -> Iterator[bytes]:
        yield next(iter(read(directory, FILE)))
        raise StorageError("Could not continue: Input/output error.")

    monkeypatch.setattr(BackupDirectory, "read", fail)
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"{server.url}{URL}")
    (line,) = [message for message in caplog.messages if "bytes early" in message]
    assert FILE in line
    assert "Input/output error" in line


def test_a_client_that_disconnects_closes_the_file(
    server: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    closed = threading.Event()
    stat = BackupDirectory.stat
    monkeypatch.setattr(
        BackupDirectory, "stat", lambda *args: dataclasses.replace(stat(*args), size=1 << 50)
    )

    def endless(*_: object) -> Iterator[bytes]:
        try:
            while True:
                yield bytes(CHUNK_BYTES)
        finally:
            closed.set()

    monkeypatch.setattr(BackupDirectory, "read", endless)
    with _request(server, URL) as connection:
        assert connection.recv(1)
        assert not closed.is_set()
    assert closed.wait(10)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_large_file_takes_little_memory(server: Served, directory: BackupDirectory) -> None:
    size = 100 << 20
    os.truncate(Path(directory.location) / FILE, size)
    into = bytearray(1 << 20)
    with _request(server, URL) as connection:
        tracemalloc.start()
        received = 0
        while count := connection.recv_into(into):
            received += count
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert received > size
    assert peak < 10 << 20


def _before_reading(monkeypatch: pytest.MonkeyPatch, action: Callable[[], None]) -> None:
    """Call a function once, after a file is looked up and before it is opened."""
    read = BackupDirectory.read

    def after_action(
        directory: BackupDirectory, name: str, offset: int = 0, length: int | None = None
    ) -> Iterator[bytes]:
        monkeypatch.setattr(BackupDirectory, "read", read)
        action()
        yield from read(directory, name, offset, length)

    monkeypatch.setattr(BackupDirectory, "read", after_action)
