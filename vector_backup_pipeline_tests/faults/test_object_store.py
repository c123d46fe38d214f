"""Faults of object storage: retries where they may help, and nothing left behind."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from vector_backup_pipeline.engine.catalog.locations import find_locations
from vector_backup_pipeline.engine.errors import IntegrityError, StorageError
from vector_backup_pipeline.engine.file_names import LOG_NAME
from vector_backup_pipeline.engine.storage import object_store, retries, run_markers
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline_tests.faults import endless_upload
from vector_backup_pipeline_tests.faults.object_proxy import Fault, ObjectProxy
from vector_backup_pipeline_tests.faults.watching import interrupted
from vector_backup_pipeline_tests.fix_object_store import Bucket
from vector_backup_pipeline_tests.fix_process import child, hears

_NAME = "t_20250101_000000.csv"
_KEY = f"vector_bak/{_NAME}"
_BLOCK = bytes(range(256)) * 4096
_BLOCKS = 20
_MARKER = ".vector_backup_20250101_000000.run"


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same retries, without their waits."""
    monkeypatch.setattr(object_store, "PART_RETRIES", 3)
    quick = {"init_backoff": timedelta(milliseconds=5), "max_backoff": timedelta(milliseconds=20)}
    monkeypatch.setattr(object_store, "BACKOFF", quick)
    monkeypatch.setattr(retries, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(retries, "LONGEST_WAIT", 0.05)


@pytest.fixture
def directory(bucket: Bucket, object_proxy: ObjectProxy) -> BackupDirectory:
    return BackupRoot(bucket.url, "vector_bak").open(None)


def _is_part(number: int) -> Callable[[str], bool]:
    return lambda request: f"partNumber={number}&" in request


def _begins(request: str) -> bool:
    return "?uploads" in request


def _completes(request: str) -> bool:
    return request.startswith("POST") and "uploadId=" in request


def _reads(request: str) -> bool:
    return request.startswith("GET") and _KEY in request


def _upload(directory: BackupDirectory) -> None:
    with directory.create(_NAME) as file:
        for _ in range(_BLOCKS):
            file.write(_BLOCK)
        file.commit()


def _sha256(directory: BackupDirectory) -> str:
    digest = hashlib.sha256()
    for chunk in directory.read(_NAME):
        digest.update(chunk)
    return digest.hexdigest()


_LOST = {
    "500": Fault(status=500),
    "503": Fault(status=503),
    "429": Fault(status=429),
    "cut": Fault(is_cut=True),
    "reset": Fault(is_reset=True),
    "answer lost": Fault(answer_is_lost=True),
    "answer cut": Fault(answer_ends_after=400),
}


@pytest.mark.parametrize(
    ("fault", "conditions"),
    [*((name, "etag") for name in _LOST), ("reset", "disabled"), ("answer lost", "disabled")],
)
def test_a_small_request_is_repeated_when_its_answer_is_lost(
    bucket: Bucket,
    object_proxy: ObjectProxy,
    fault: str,
    conditions: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The fault is injected into the first attempt of each request."""
    seen: set[str] = set()

    def first_time(request: str) -> Fault | None:
        is_new = request not in seen
        seen.add(request)
        return _LOST[fault] if is_new else None

    object_proxy.fault = first_time
    monkeypatch.setenv("AWS_CONDITIONAL_PUT", conditions)
    directory = BackupRoot(bucket.url, "vector_bak").open(None)

    held = directory.claim(_MARKER, "run")
    assert held is not None
    assert any(name.startswith(_MARKER) for name in directory.names())
    for text in ("one\n", "two\n"):
        directory.append(LOG_NAME, text)
    with directory.create(_NAME) as file:
        file.write(b"rows")
        file.commit()
    directory.replace("verdict.json", b"{}")
    assert b"".join(directory.read(_NAME, 1, 2)) == b"ow"
    assert directory.stat(_NAME).size == len(b"rows")
    directory.delete("verdict.json")
    held.release()

    assert directory.names() == [_NAME, LOG_NAME]
    assert bucket.stored(f"vector_bak/{LOG_NAME}") == b"one\ntwo\n"


_WHOLE = hashlib.sha256(_BLOCK * _BLOCKS).hexdigest()


@pytest.mark.parametrize(
    "fault", [Fault(is_reset=True), Fault(answer_is_lost=True)], ids=["reset", "answer lost"]
)
@pytest.mark.parametrize("to", [_begins, _is_part(3), _completes], ids=["begin", "3", "complete"])
def test_an_upload_continues_after_a_transient_fault(
    bucket: Bucket,
    directory: BackupDirectory,
    object_proxy: ObjectProxy,
    fault: Fault,
    to: Callable[[str], bool],
) -> None:
    object_proxy.does(fault, to, times=2)
    _upload(directory)
    assert hashlib.sha256(bucket.stored(_KEY)).hexdigest() == _WHOLE
    # The id of an upload whose start was not answered is unknown; a prune finds the upload.
    begun_unknown = 2 if to is _begins and fault.answer_is_lost else 0
    assert bucket.unfinished() == [_KEY] * begun_unknown


@pytest.mark.parametrize("to", [_begins, _is_part(3), _completes], ids=["begin", "3", "complete"])
def test_an_upload_that_keeps_failing_is_aborted_with_an_error(
    bucket: Bucket,
    directory: BackupDirectory,
    object_proxy: ObjectProxy,
    to: Callable[[str], bool],
) -> None:
    object_proxy.does(Fault(status=500), to)
    with pytest.raises(StorageError, match=f"upload {bucket.url}/{_KEY}: the server answered 500"):
        _upload(directory)
    assert (bucket.all_keys(), bucket.unfinished()) == ([], [])


def test_an_upload_whose_completion_is_never_answered_is_complete_if_it_is_there(
    bucket: Bucket, directory: BackupDirectory, object_proxy: ObjectProxy
) -> None:
    object_proxy.does(Fault(answer_is_lost=True), _completes)
    _upload(directory)
    assert hashlib.sha256(bucket.stored(_KEY)).hexdigest() == _WHOLE


def test_a_stored_file_of_another_size_is_not_called_done(
    bucket: Bucket, directory: BackupDirectory, object_proxy: ObjectProxy
) -> None:
    def shorten() -> None:
        bucket.put(_KEY, b"not all of it")

    heads = iter([Fault(), Fault(happens=shorten)])
    object_proxy.fault = lambda request: next(heads) if request.startswith("HEAD") else None
    with pytest.raises(IntegrityError, match=r"13 bytes but 20971520 were written"):
        _upload(directory)
    assert bucket.all_keys() == []


def test_an_upload_that_is_interrupted_while_it_is_completed_leaves_nothing(
    bucket: Bucket, directory: BackupDirectory, object_proxy: ObjectProxy
) -> None:
    """The request may have been sent; the object that it creates is deleted."""
    signalled = threading.Event()

    def interrupt() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        signalled.wait(0.3)

    object_proxy.does(Fault(happens=interrupt), _completes, times=1)
    with interrupted():
        _upload(directory)
    assert (bucket.all_keys(), bucket.unfinished()) == ([], [])


@pytest.mark.parametrize("bytes_each", [400, 9_000_000])
def test_a_read_continues_where_the_connection_was_lost(
    directory: BackupDirectory, object_proxy: ObjectProxy, bytes_each: int
) -> None:
    _upload(directory)
    object_proxy.does(Fault(answer_ends_after=bytes_each), _reads, times=2)
    assert _sha256(directory) == _WHOLE


def test_a_file_that_is_replaced_while_it_is_read_is_not_mixed(
    bucket: Bucket, directory: BackupDirectory, object_proxy: ObjectProxy
) -> None:
    _upload(directory)
    reads = iter(
        [Fault(answer_ends_after=3_000_000)]
        + [Fault(happens=lambda: bucket.put(_KEY, b"another" * 1_000_000))] * 20
    )
    object_proxy.fault = lambda request: next(reads) if _reads(request) else None
    with pytest.raises(IntegrityError, match="was replaced while it was being read"):
        _sha256(directory)


def test_an_answer_that_does_not_come_is_asked_for_again(
    bucket: Bucket, object_proxy: ObjectProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "READ_TIMEOUT", "200ms")
    directory = BackupRoot(bucket.url, "vector_bak").open(None)
    directory.replace(_NAME, b"here")
    over = threading.Event()
    object_proxy.does(Fault(happens=lambda: over.wait(20)), _reads, times=1)
    assert b"".join(directory.read(_NAME)) == b"here"
    over.set()


@contextmanager
def _endless_upload(bucket: Bucket) -> Iterator["subprocess.Popen[str]"]:
    with child(
        [sys.executable, "-m", endless_upload.__name__, bucket.url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert hears(process) == "under way"
        yield process


def test_a_killed_process_leaves_no_file_and_its_parts_are_found_and_aborted(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _endless_upload(bucket) as process:
        process.kill()
    (key,) = bucket.unfinished()
    assert [key for key in bucket.all_keys() if not key.endswith(".run")] == []
    root = BackupRoot(bucket.url, "vector_bak")
    (location,) = find_locations(root)
    assert (location.sets, location.other_files) == ((), ())
    # Its marker counts as alive for a while.
    assert root.abort_abandoned_uploads(dry_run=False) == []

    monkeypatch.setattr(run_markers, "DEAD_AFTER", timedelta())

    (aborted,) = root.abort_abandoned_uploads(dry_run=False)
    assert aborted.location == f"{bucket.url}/{key}"
    assert aborted.size is not None
    assert aborted.size >= 8 << 20
    assert bucket.unfinished() == []
