"""A stored file as its caller gets it over HTTP: whole, in parts, or not at all."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, unquote

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient
from starlette.types import Message

from vector_backup_pipeline.api.file_response import file_response
from vector_backup_pipeline.engine.catalog.downloads import find_download
from vector_backup_pipeline.engine.errors import StorageError
from vector_backup_pipeline.engine.file_names import LOG_NAME, manifest_name
from vector_backup_pipeline.engine.storage.contract import BackupDirectory, BackupRoot
from vector_backup_pipeline.engine.storage.local import READ_BYTES, LocalDirectory, LocalRoot
from vector_backup_pipeline.engine.storage.object_root import ObjectRoot
from vector_backup_pipeline_tests.api.serving import Served, download_app, served
from vector_backup_pipeline_tests.fix_backup import TIMESTAMPS
from vector_backup_pipeline_tests.fix_object_store import Bucket

STAMP = "20250101_000000"
FILE = f"t_{STAMP}.csv"
URL = f"/{STAMP}/{FILE}"
# More than two chunks of a read.
DATA = bytes(range(256)) * 10_000 + b"the end\n"


def _local(request: pytest.FixtureRequest) -> BackupRoot:
    return LocalRoot(str(request.getfixturevalue("tmp_path")), "vector_bak")


def _s3(request: pytest.FixtureRequest) -> BackupRoot:
    bucket: Bucket = request.getfixturevalue("bucket")
    return ObjectRoot(bucket.url, "vector_bak")


_STORES: dict[str, Callable[[pytest.FixtureRequest], BackupRoot]] = {"local": _local, "s3": _s3}


@pytest.fixture(params=_STORES)
def any_root(request: pytest.FixtureRequest) -> BackupRoot:
    """A set of one file, in each store."""
    return _with_set(_STORES[request.param](request))


@pytest.fixture
def any_client(any_root: BackupRoot) -> TestClient:
    return TestClient(download_app(any_root))


@pytest.fixture
def root(tmp_path: Path) -> BackupRoot:
    return _with_set(LocalRoot(str(tmp_path), "vector_bak"))


@pytest.fixture
def directory(root: BackupRoot) -> BackupDirectory:
    return root.open(None)


@pytest.fixture
def client(root: BackupRoot) -> TestClient:
    return TestClient(download_app(root))


@pytest.fixture
def server(root: BackupRoot) -> Iterator[Served]:
    with served(download_app(root)) as running:
        yield running


def _with_set(root: BackupRoot) -> BackupRoot:
    directory = root.open(None)
    directory.replace(FILE, DATA)
    directory.replace(manifest_name(STAMP), b"{}")
    return root


def test_a_file_comes_whole(any_client: TestClient) -> None:
    answer = any_client.get(URL)
    assert answer.status_code == 200
    assert answer.content == DATA
    tag = answer.headers.pop("etag")
    assert tag.startswith('"')
    assert tag.endswith('"')
    assert dict(answer.headers) == {
        "accept-ranges": "bytes",
        "cache-control": "private, no-cache",
        "content-disposition": f'attachment; filename="{FILE}"',
        "content-length": str(len(DATA)),
        "content-type": "text/csv; charset=utf-8",
        "x-content-type-options": "nosniff",
    }


def test_head_tells_the_same_without_reading(
    any_client: TestClient, any_root: BackupRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = any_client.get(URL)

    def read(*_: object) -> Iterator[bytes]:
        raise AssertionError("Nothing has to be read.")

    monkeypatch.setattr(type(any_root.open(None)), "read", read)
    for headers in ({}, {"Range": "bytes=1-2"}, {"Range": f"bytes={len(DATA)}-"}):
        answer = any_client.head(URL, headers=headers)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers == whole.headers
    known = any_client.head(URL, headers={"If-None-Match": whole.headers["etag"]})
    assert known.status_code == 304


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("0-0", 0, 0),
        ("1048575-1048576", 1048575, 1048576),
        ("2000000-", 2000000, len(DATA) - 1),
        ("-8", len(DATA) - 8, len(DATA) - 1),
        ("0-99999999", 0, len(DATA) - 1),
    ],
)
def test_a_part_of_a_file_comes_alone(
    any_client: TestClient, asked: str, first: int, last: int
) -> None:
    answer = any_client.get(URL, headers={"Range": f"bytes={asked}"})
    assert answer.status_code == 206
    assert answer.content == DATA[first : last + 1]
    assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(DATA)}"
    assert answer.headers["content-length"] == str(last - first + 1)
    assert answer.headers["etag"] == any_client.head(URL).headers["etag"]


def test_a_range_outside_of_the_file_is_refused_with_its_size(any_client: TestClient) -> None:
    answer = any_client.get(URL, headers={"Range": f"bytes={len(DATA)}-"})
    assert answer.status_code == 416
    assert answer.json()["error_type"] == "RANGE_NOT_SATISFIABLE"
    assert answer.headers["content-range"] == f"bytes */{len(DATA)}"


@settings(max_examples=15, deadline=None)
@given(
    data=st.binary(max_size=40) | st.just(DATA),
    cuts=st.sets(st.integers(1, len(DATA) - 1) | st.integers(1, 40), max_size=5),
)
def test_parts_joined_are_the_file(
    data: bytes, cuts: set[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = _with_set(LocalRoot(str(tmp_path_factory.mktemp("root")), "vector_bak"))
    root.open(None).replace(FILE, data)
    client = TestClient(download_app(root))
    begins = [0, *sorted(cut for cut in cuts if cut < len(data))]
    ends = [*(begin - 1 for begin in begins[1:]), ""]

    parts = [
        client.get(URL, headers={"Range": f"bytes={begin}-{end}"})
        for begin, end in zip(begins, ends, strict=True)
        if data
    ]

    assert [part.status_code for part in parts] == [206] * len(parts)
    assert b"".join(part.content for part in parts) == data == client.get(URL).content


def test_an_empty_file_is_a_file(client: TestClient, directory: BackupDirectory) -> None:
    directory.replace(FILE, b"")
    for headers in ({}, {"Range": "bytes=-5"}):
        answer = client.get(URL, headers=headers)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-length"] == "0"
    assert client.get(URL, headers={"Range": "bytes=0-"}).status_code == 416


def test_who_has_the_file_already_gets_none(any_client: TestClient) -> None:
    tag = any_client.get(URL).headers["etag"]
    for known in (tag, f'"other", W/{tag}', "*"):
        answer = any_client.get(URL, headers={"If-None-Match": known, "Range": "bytes=0-1"})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == tag
    assert any_client.get(URL, headers={"If-None-Match": '"other"'}).content == DATA


def test_a_changed_file_is_another_version_and_no_part_of_it_is_mixed_in(
    any_client: TestClient, any_root: BackupRoot
) -> None:
    headers = {"Range": "bytes=3-", "If-Range": any_client.get(URL).headers["etag"]}
    part = any_client.get(URL, headers=headers)
    assert (part.status_code, part.content) == (206, DATA[3:])

    any_root.open(None).replace(FILE, DATA[::-1])

    whole = any_client.get(URL, headers=headers)
    assert (whole.status_code, whole.content) == (200, DATA[::-1])
    assert whole.headers["etag"] != headers["If-Range"]
    again = any_client.get(URL, headers={"If-None-Match": headers["If-Range"]})
    assert again.status_code == 200


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        (f"t_{STAMP}.csv", "text/csv; charset=utf-8"),
        (f"t_{STAMP}.csv.gz", "application/gzip"),
        (f"t_{STAMP}.csv.zst", "application/zstd"),
        (f"t_{STAMP}.pgcopy", "application/octet-stream"),
        (f"t_{STAMP}.pgcopy.gz", "application/gzip"),
        (f"t_{STAMP}.pgcopy.zst", "application/zstd"),
        (manifest_name(STAMP), "application/json"),
        (LOG_NAME, "text/plain; charset=utf-8"),
    ],
)
def test_every_kind_of_file_has_its_media_type(
    client: TestClient, directory: BackupDirectory, name: str, media_type: str
) -> None:
    directory.replace(name, b"as it is stored")
    answer = client.get(f"/{STAMP}/{name}", headers={"Accept-Encoding": "gzip, zstd"})
    assert answer.content == b"as it is stored"
    assert answer.headers["content-type"] == media_type
    assert "content-encoding" not in answer.headers


_NAMES = {
    "a%2Fb": "a_2Fb",
    "100%25": "100_25",
    "schön 表": "sch_n _",
    'x"; filename="y': "x__ filename__y",
    "it's (1)*": "it_s _1__",
}
# No name of an object; the older system took any.
_LOCAL_NAMES = {"a\r\nSet-Cookie: b": "a__Set-Cookie_ b"}


def test_a_name_arrives_as_it_is(any_root: BackupRoot) -> None:
    names = _NAMES | (_LOCAL_NAMES if isinstance(any_root, LocalRoot) else {})
    # The test client would decode a name twice.
    with served(download_app(any_root)) as server:
        for name, plain in names.items():
            file = f"{name}_{STAMP}.csv"
            any_root.open(None).replace(file, name.encode())
            answer = httpx.get(f"{server.url}/{STAMP}/{quote(file)}")
            assert answer.content == name.encode()
            assert "set-cookie" not in answer.headers
            told, _, exact = answer.headers["content-disposition"].partition("; filename*=UTF-8''")
            assert told == f'attachment; filename="{plain}_{STAMP}.csv"'
            assert unquote(exact) == file
            assert exact.isascii()
            assert not set(exact) & set(" \"'();*,/\\")


def test_no_spelling_of_a_path_leads_out(server: Served, root: BackupRoot, tmp_path: Path) -> None:
    secret = tmp_path / f"secret_{STAMP}.csv"
    secret.write_text("id\r\nSECRET\r\n")
    link = Path(root.open(None).location) / f"link_{STAMP}.csv"
    link.symlink_to(secret)
    for name in (
        f"../{secret.name}",
        f"..%2F{secret.name}",
        f"..%252F{secret.name}",
        f"%2e%2e/{secret.name}",
        f"%2e%2e%2f{secret.name}",
        f"..%5C{secret.name}",
        quote(str(secret), safe=""),
        f"{secret.name}%00",
        f"%ff{secret.name}",
        f"%ED%B2%80{secret.name}",
        link.name,
    ):
        with server.ask(f"/{STAMP}/{name}") as connection:
            answer = _all_of(connection)
        assert answer.startswith(b"HTTP/1.1 404 "), name
        assert b"SECRET" not in answer
        assert str(tmp_path).encode() not in answer


def test_a_file_is_served_by_a_real_server(server: Served) -> None:
    head = httpx.head(f"{server.url}{URL}")
    whole = httpx.get(f"{server.url}{URL}")
    part = httpx.get(f"{server.url}{URL}", headers={"Range": "bytes=-7"})
    known = httpx.get(f"{server.url}{URL}", headers={"If-None-Match": whole.headers["etag"]})
    assert (whole.status_code, whole.content) == (200, DATA)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(DATA))
    assert (part.status_code, part.content) == (206, DATA[-7:])
    assert (known.status_code, known.content) == (304, b"")


def test_what_fails_before_the_first_byte_is_an_errors_answer(
    client: TestClient,
    root: BackupRoot,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(directory: LocalDirectory, *_: object) -> Iterator[bytes]:
        raise StorageError(f"Could not read {directory.location}: Input/output error.")

    monkeypatch.setattr(LocalDirectory, "read", refuse)
    answer = client.get(URL)
    assert answer.status_code == 500
    assert answer.json()["error_type"] == "STORAGE_ERROR"
    assert root.location not in answer.text
    assert "Input/output error" in caplog.text


def test_a_file_that_is_gone_when_it_is_opened_is_not_found(
    client: TestClient, root: BackupRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    _before_reading(monkeypatch, lambda: root.open(None).delete(FILE))
    answer = client.get(URL)
    assert answer.status_code == 404
    assert root.location not in answer.text


@pytest.mark.parametrize("data", [DATA[::-1], b"", DATA + b"more"])
def test_a_file_that_is_another_one_when_it_is_opened_is_to_be_asked_for_again(
    client: TestClient, directory: BackupDirectory, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    _before_reading(monkeypatch, lambda: directory.replace(FILE, data))
    answer = client.get(URL)
    assert answer.status_code == 500
    assert answer.json()["retry"] is True
    assert client.get(URL).content == data


def test_a_link_put_in_the_files_place_is_not_followed(
    client: TestClient, directory: BackupDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_bytes(DATA)

    def put_link() -> None:
        directory.delete(FILE)
        (Path(directory.location) / FILE).symlink_to(tmp_path / "secret")

    _before_reading(monkeypatch, put_link)
    assert client.get(URL).status_code == 404


def test_a_download_that_breaks_off_is_seen_to_be_short(
    server: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    read = LocalDirectory.read

    def break_off(directory: LocalDirectory, *asked: int) -> Iterator[bytes]:
        yield next(iter(read(directory, FILE)))
        raise StorageError("Could not go on: Input/output error.")

    monkeypatch.setattr(LocalDirectory, "read", break_off)
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"{server.url}{URL}")
    (line,) = [each for each in caplog.messages if "broke off" in each]
    assert FILE in line
    assert "Input/output error" in line


def test_a_file_that_is_cut_while_it_is_read_is_seen_to_be_short(
    server: Served, directory: BackupDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    path = Path(directory.location) / FILE
    os.truncate(path, 400 << 20)
    with server.ask(URL) as connection:
        received = len(connection.recv(1))
        os.truncate(path, 2 << 20)
        received += len(_all_of(connection))
    assert received < 400 << 20
    assert "was cut off" in caplog.text


def test_a_client_that_goes_away_closes_the_file(
    server: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    closed = threading.Event()
    monkeypatch.setattr(LocalDirectory, "size", lambda *_: 1 << 50)

    def endless(*_: object) -> Iterator[bytes]:
        try:
            while True:
                yield bytes(READ_BYTES)
        finally:
            closed.set()

    monkeypatch.setattr(LocalDirectory, "read", endless)
    with server.ask(URL) as connection:
        assert connection.recv(1)
        assert not closed.is_set()
    assert closed.wait(10)
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


@pytest.mark.parametrize("blocks_before", [0, 1])
def test_an_answer_that_is_cancelled_in_the_midst_of_a_read_closes_the_file(
    root: BackupRoot, monkeypatch: pytest.MonkeyPatch, blocks_before: int
) -> None:
    reading, go_on, closed = threading.Event(), threading.Event(), threading.Event()

    def slow(*_: object) -> Iterator[bytes]:
        try:
            yield from [b"block"] * blocks_before
            reading.set()
            go_on.wait(10)
            yield b"block"
        finally:
            closed.set()

    monkeypatch.setattr(LocalDirectory, "read", slow)
    found = find_download(root, TIMESTAMPS, STAMP, FILE, None)

    async def send(_: Message) -> None:
        pass

    async def receive() -> Message:
        return await asyncio.Future[Message]()

    async def cancel_while_reading() -> None:
        answer = file_response(found, {}, send_body=True)
        task = asyncio.ensure_future(answer({"type": "http"}, receive, send))
        await asyncio.to_thread(reading.wait, 10)
        task.cancel()
        asyncio.get_running_loop().call_later(0.05, go_on.set)
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel_while_reading())
    assert closed.is_set()


def test_a_large_file_takes_little_memory(server: Served, directory: BackupDirectory) -> None:
    size = 100 << 20
    os.truncate(Path(directory.location) / FILE, size)
    into = bytearray(1 << 20)
    with server.ask(URL) as connection:
        tracemalloc.start()
        received = 0
        while count := connection.recv_into(into):
            received += count
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert received > size
    assert peak < 10 << 20


def _before_reading(monkeypatch: pytest.MonkeyPatch, action: Callable[[], None]) -> None:
    """Let something happen once, between a file's being found and its being opened."""
    read = LocalDirectory.read

    def after_action(
        directory: LocalDirectory, name: str, offset: int = 0, length: int | None = None
    ) -> Iterator[bytes]:
        monkeypatch.setattr(LocalDirectory, "read", read)
        action()
        yield from read(directory, name, offset, length)

    monkeypatch.setattr(LocalDirectory, "read", after_action)


def _all_of(connection: socket.socket) -> bytes:
    parts = []
    while part := connection.recv(1 << 20):
        parts.append(part)
    return b"".join(parts)
