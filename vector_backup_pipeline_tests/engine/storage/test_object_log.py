"""The log in a bucket: whatever happens at once, no section is lost, doubled or torn."""

import multiprocessing

import pytest

from vector_backup_pipeline.engine.storage.object_root import ObjectRoot
from vector_backup_pipeline_tests.faults.object_proxy import Fault, ObjectProxy
from vector_backup_pipeline_tests.fix_object_store import Bucket

_KEY = "vector_bak/vector_backup_log.txt"
_LOG = "vector_backup_log.txt"
_SECTIONS_EACH = 6


def _append(url: str, *sections: str) -> None:
    directory = ObjectRoot(url, "vector_bak").open(None)
    for section in sections:
        directory.append(_LOG, section)


@pytest.mark.parametrize("said", ["etag", "disabled"])
def test_two_processes_at_once_lose_no_section(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    monkeypatch.setenv("AWS_CONDITIONAL_PUT", said)
    bucket.put(_KEY, b"what was there before\n")
    sections = [[f"{who}{n}\n" for n in range(_SECTIONS_EACH)] for who in "ab"]
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_append, args=(bucket.url, *each)) for each in sections]
    for process in processes:
        process.start()
    try:
        for process in processes:
            process.join(60)
            assert process.exitcode == 0
    finally:
        for process in processes:
            process.kill()
            process.join()
    first, *written = bucket.stored(_KEY).decode().splitlines(keepends=True)
    assert first == "what was there before\n"
    assert sorted(written) == sorted(sections[0] + sections[1])
    for each in sections:
        assert [section for section in written if section in each] == each


def test_runs_that_think_differently_of_conditions_share_one_log(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = ""
    for number, said in enumerate(["etag", "disabled", "disabled", "etag", "disabled"]):
        monkeypatch.setenv("AWS_CONDITIONAL_PUT", said)
        _append(bucket.url, f"section {number}\n")
        expected += f"section {number}\n"
    written = bucket.stored(_KEY).decode().splitlines()
    assert sorted(written) == sorted(expected.splitlines())
    assert len(written) == 5


def test_a_log_that_lost_a_section_gets_it_back(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when two runs without conditions write it at once, and the later knew less."""
    monkeypatch.setenv("AWS_CONDITIONAL_PUT", "disabled")
    _append(bucket.url, "one\n", "two\n")
    bucket.put(_KEY, b"two\n")
    _append(bucket.url, "three\n")
    assert bucket.stored(_KEY) == b"one\ntwo\nthree\n"


def test_a_run_that_writes_over_anothers_section_puts_it_back(
    bucket: Bucket, object_proxy: ObjectProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CONDITIONAL_PUT", "disabled")
    # All of the other's comes between this one's look and its writing.
    object_proxy.does(
        Fault(happens=lambda: _append(bucket.url, "two\n")),
        to=lambda request: request.startswith("PUT") and _LOG in request,
        times=1,
    )
    _append(bucket.url, "one\n")
    assert bucket.stored(_KEY) == b"one\ntwo\n"


def test_sections_that_are_in_the_log_are_not_read_again(
    bucket: Bucket, object_proxy: ObjectProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CONDITIONAL_PUT", "disabled")
    _append(bucket.url, *(f"{number}\n" for number in range(5)))
    object_proxy.requests.clear()
    _append(bucket.url, "last\n")
    section_reads = [
        request
        for request in object_proxy.requests
        if request.startswith("GET") and "vector_backup_log/" in request
    ]
    assert len([request for request in section_reads if "prefix=" not in request]) == 1


def test_an_answer_that_another_is_writing_is_asked_again(
    bucket: Bucket, object_proxy: ObjectProxy
) -> None:
    """S3 says 409 instead of 412 when two conditional writes meet."""
    _append(bucket.url, "one\n")
    object_proxy.does(
        Fault(status=409),
        to=lambda request: request.startswith("PUT") and _LOG in request,
        times=3,
    )
    _append(bucket.url, "two\n")
    assert bucket.stored(_KEY) == b"one\ntwo\n"


def test_a_section_whose_answer_was_lost_is_there_once(
    bucket: Bucket, object_proxy: ObjectProxy
) -> None:
    _append(bucket.url, "one\n")
    object_proxy.does(
        Fault(answer_is_lost=True),
        to=lambda request: request.startswith("PUT") and _LOG in request,
        times=1,
    )
    _append(bucket.url, "two\n")
    assert bucket.stored(_KEY) == b"one\ntwo\n"
