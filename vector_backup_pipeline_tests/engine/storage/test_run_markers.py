"""Run markers in every store: created once, alive until released, free after the run died."""

import json
import logging
import os
import socket
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest

from vector_backup_pipeline.engine.errors import BackupError
from vector_backup_pipeline.engine.storage import run_markers
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.engine.storage.run_markers import DEAD_AFTER, RunMarker
from vector_backup_pipeline_tests.engine.storage.conftest import EVERY_STORE

pytestmark = EVERY_STORE

NAME = ".vector_backup_20250101_000000.run"


@pytest.fixture
def quick_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_markers, "HEARTBEAT_SECONDS", 0.01)


@pytest.fixture
def held(directory: BackupDirectory) -> Iterator[RunMarker]:
    marker = directory.claim(NAME, "run")
    assert marker is not None
    yield marker
    marker.release()


def _content(directory: BackupDirectory) -> dict[str, object]:
    content: dict[str, object] = json.loads(b"".join(directory.read(NAME)))
    return content


def _put(directory: BackupDirectory, host: str, heartbeat: datetime) -> None:
    directory.replace(NAME, json.dumps({"host": host, "heartbeat": heartbeat.isoformat()}).encode())


def test_a_marker_says_who_is_working(held: RunMarker, another: BackupDirectory) -> None:
    content = _content(another)
    expected = {"host": socket.gethostname(), "pid": os.getpid(), "run_id": "run"}
    assert content.items() >= expected.items()
    assert "heartbeat" in content
    assert another.names() == [NAME]


def test_of_many_at_once_one_gets_a_marker(root: BackupRoot, directory: BackupDirectory) -> None:
    together = threading.Barrier(8, timeout=20)
    markers: list[RunMarker | None] = []

    def claim() -> None:
        own = BackupRoot(root.location, "vector_bak").open(None)
        together.wait()
        markers.append(own.claim(NAME, "run"))

    threads = [threading.Thread(target=claim, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(markers) == 8
    (held,) = [marker for marker in markers if marker is not None]
    assert directory.claim_is_alive(NAME)
    held.release()
    assert directory.names() == []


def test_a_live_marker_stays_and_may_be_taken_after_its_release(
    held: RunMarker, directory: BackupDirectory, another: BackupDirectory
) -> None:
    for opened in (directory, another):
        assert opened.claim_is_alive(NAME)
        opened.remove_dead_claim(NAME)
        assert opened.claim(NAME, "run") is None
    assert another.names() == [NAME]
    held.release()
    held.release()
    assert not another.claim_is_alive(NAME)
    another.remove_dead_claim(NAME)
    again = another.claim(NAME, "run")
    assert again is not None
    again.release()
    assert another.names() == []


def test_a_marker_that_another_process_put_in_its_place_stays(
    held: RunMarker, another: BackupDirectory
) -> None:
    another.delete(NAME)
    _put(another, "elsewhere", datetime.now(timezone.utc))
    held.release()
    assert another.names() == [NAME]


@pytest.mark.usefixtures("quick_heartbeat")
def test_a_failed_heartbeat_is_logged_and_retried(
    directory: BackupDirectory,
    another: BackupDirectory,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    held = directory.claim(NAME, "run")
    assert held is not None
    first, errors = _content(another), [MemoryError("no room"), BackupError("unreachable")]
    text = run_markers.marker_text

    def fail_at_first(owner: dict[str, str | int]) -> bytes:
        if errors:
            raise errors.pop()
        return text(owner)

    with caplog.at_level(logging.ERROR):
        monkeypatch.setattr(run_markers, "marker_text", fail_at_first)
        while errors or _content(another) == first:
            pass
    held.release()
    assert another.names() == []
    assert "MemoryError: no room" in caplog.text
    assert "unreachable" in caplog.text


@pytest.mark.usefixtures("quick_heartbeat")
def test_a_marker_that_was_removed_is_not_made_again(
    directory: BackupDirectory, another: BackupDirectory
) -> None:
    held = directory.claim(NAME, "run")
    assert held is not None
    first = _content(another)
    while _content(another) == first:
        pass
    another.delete(NAME)
    held.release()
    assert another.names() == []


@pytest.mark.parametrize(("minutes", "is_alive"), [(14, True), (16, False)])
def test_a_marker_of_another_host_is_dead_after_15_minutes_without_a_heartbeat(
    directory: BackupDirectory, minutes: int, is_alive: bool
) -> None:
    assert timedelta(minutes=15) == DEAD_AFTER
    _put(directory, "elsewhere", datetime.now(timezone.utc) - timedelta(minutes=minutes))
    assert directory.claim_is_alive(NAME) is is_alive
    claimed = directory.claim(NAME, "run")
    assert (claimed is None) is is_alive
    if claimed is not None:
        assert _content(directory)["run_id"] == "run"
        claimed.release()
    assert directory.names() == ([NAME] if is_alive else [])


@pytest.mark.parametrize("content", ["", '{"host": "', "[]", '{"host": "x", "heartbeat": 5}'])
def test_a_marker_that_is_incomplete_counts_by_its_files_age(
    directory: BackupDirectory, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    directory.replace(NAME, content.encode())
    assert directory.claim_is_alive(NAME)
    # A store may round the time to seconds.
    monkeypatch.setattr(run_markers, "DEAD_AFTER", timedelta(seconds=-2))
    assert not directory.claim_is_alive(NAME)
    directory.remove_dead_claim(NAME)
    assert directory.names() == []
