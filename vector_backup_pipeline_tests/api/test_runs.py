"""A call that waits for its run, also during an outage of Dagster."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Message

from vector_backup_pipeline.api import runs
from vector_backup_pipeline.api.dagster_client import DagsterClient
from vector_backup_pipeline.api.errors import DagsterUnavailable, RunUnresolved
from vector_backup_pipeline.api.operations import BACKUP
from vector_backup_pipeline.api.run_reader import RunProgress
from vector_backup_pipeline.api.runs import Runs
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.settings import load_settings
from vector_backup_pipeline_tests.api.dagster_stand_in import DEAD_DAEMON, JOB, StandIn, event
from vector_backup_pipeline_tests.api.serving import served
from vector_backup_pipeline_tests.fix_api import BASE, app_of
from vector_backup_pipeline_tests.fix_dagster import eventually


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(runs, "_QUEUE_SECONDS", 0.0)
    monkeypatch.setattr(runs, "_DEQUEUE_SECONDS", 0.1)


def _caller(*, disconnects: bool = False) -> Request:
    """A caller who waits, or has closed the connection."""

    async def receive() -> Message:
        if not disconnects:
            await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


def _with_runs(dagster: StandIn, use: Callable[[Runs], Awaitable[Any]]) -> Any:
    async def within_time() -> Any:
        settings = load_settings(dagster_url=dagster.url)
        async with contextlib.aclosing(DagsterClient(dagster.url)) as client:
            of = Runs(settings, BackupRoot("nowhere", "bak"), client)
            return await asyncio.wait_for(use(of), 20)

    return asyncio.run(within_time())


def _wait(of: Runs, run_id: str) -> "asyncio.Task[RunProgress]":
    return asyncio.create_task(of.wait(BACKUP, run_id, _caller()))


async def _queried(dagster: StandIn, more: int = 1) -> None:
    """Wait until Dagster has received that many more queries for statuses."""
    expected = dagster.count("Runs") + more
    while dagster.count("Runs") < expected:
        await asyncio.sleep(0.005)


def test_a_caller_who_waits_is_answered_when_another_cancels_the_run(
    dagster: StandIn, tmp_path: Path
) -> None:
    app = app_of(tmp_path, dagster_url=dagster.url)
    with (
        served(app) as server,
        httpx.Client(base_url=server.url, timeout=20) as http,
        ThreadPoolExecutor(1) as pool,
    ):
        waiting = pool.submit(http.post, f"{BASE}/backup")
        eventually(lambda: dagster.count("Runs") > 1, "the API's waiting")
        (run_id,) = dagster.runs
        dagster.runs[run_id].status = "STARTED"
        canceled = http.delete(f"{BASE}/backup/{run_id}")
        answer = waiting.result()
        status = http.get(f"{BASE}/backup/{run_id}").json()["data"]

    assert canceled.status_code == 202
    assert (answer.status_code, answer.json()["data"]["error_type"]) == (409, "RUN_CANCELED")
    assert answer.json()["data"]["run_id"] == run_id
    assert (status["status"], status["response"]) == ("CANCELED", "Vector表备份已取消")
    assert status["error"]["error_type"] == "RUN_CANCELED"


def test_callers_who_wait_for_several_runs_share_one_query(dagster: StandIn) -> None:
    dagster.delay = 0.01
    run_ids = [dagster.add() for _ in range(5)]

    async def wait(of: Runs) -> None:
        waiting = [_wait(of, run_id) for run_id in run_ids * 20]
        await _queried(dagster, 3)
        assert dagster.most_at_once == 1
        assert dagster.queries[-1][1]["filter"]["runIds"] == sorted(run_ids)
        dagster.runs[run_ids[0]].status = "SUCCESS"
        await asyncio.gather(*waiting[::5])
        assert [future.done() for future in waiting] == [True, *[False] * 4] * 20
        for run_id in run_ids[1:]:
            dagster.runs[run_id].status = "SUCCESS"
        await asyncio.gather(*waiting)
        queries = len(dagster.queries)
        await asyncio.sleep(0.05)
        assert len(dagster.queries) == queries

    _with_runs(dagster, wait)


@pytest.mark.parametrize("status", ["QUEUED", "STARTED"])
def test_a_caller_waits_through_other_states_and_an_outage(dagster: StandIn, status: str) -> None:
    run_id = dagster.add(status)

    async def wait(of: Runs) -> RunProgress:
        waiting = _wait(of, run_id)
        await _queried(dagster)
        dagster.runs[run_id].status = "CANCELING"
        await _queried(dagster, 2)
        assert not waiting.done()
        dagster.fail()
        await _queried(dagster, 3)
        dagster.runs[run_id].status = "SUCCESS"
        dagster.runs[run_id].events.append(event("RunSuccessEvent"))
        await _queried(dagster, 2)
        assert not waiting.done()
        dagster.instead = lambda _: None
        return await waiting

    assert _with_runs(dagster, wait).reading.status == "SUCCESS"


def test_a_long_outage_ends_the_wait_and_short_ones_are_not_added_up(
    dagster: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "OUTAGE_SECONDS", 0.5)
    run_id = dagster.add()

    async def wait(of: Runs) -> None:
        waiting = _wait(of, run_id)
        for _ in range(4):
            dagster.fail()
            await asyncio.sleep(0.2)
            dagster.instead = lambda _: None
            await _queried(dagster, 2)
        assert not waiting.done()
        dagster.fail()
        await waiting

    with pytest.raises(RunUnresolved, match="may still start") as failure:
        _with_runs(dagster, wait)
    assert failure.value.run_id == run_id


def test_a_run_whose_end_can_no_longer_be_read_is_named(dagster: StandIn) -> None:
    run_id = dagster.add("SUCCESS")
    dagster.fail("Run")

    with pytest.raises(RunUnresolved, match=f"The run {run_id} has ended") as failure:
        _with_runs(dagster, lambda of: of.wait(BACKUP, run_id, _caller()))
    assert failure.value.run_id == run_id


def test_a_run_in_a_queue_without_a_daemon_is_canceled(dagster: StandIn) -> None:
    run_id = dagster.add("QUEUED")
    dagster.daemons = [DEAD_DAEMON]

    with pytest.raises(DagsterUnavailable, match=r"daemon run.*was canceled") as failure:
        _with_runs(dagster, lambda of: of.wait(BACKUP, run_id, _caller()))
    assert (failure.value.run_id, failure.value.can_retry) == (run_id, True)
    assert dagster.runs[run_id].status == "CANCELED"


def test_a_run_that_has_started_needs_no_daemon(dagster: StandIn) -> None:
    run_id = dagster.add("STARTED")
    dagster.daemons = [DEAD_DAEMON]

    async def wait(of: Runs) -> RunProgress:
        waiting = _wait(of, run_id)
        await _queried(dagster, 5)
        assert not waiting.done()
        dagster.runs[run_id].status = "SUCCESS"
        return await waiting

    assert _with_runs(dagster, wait).reading.status == "SUCCESS"


@pytest.mark.parametrize(
    ("becomes", "message", "can_retry"),
    [
        ("QUEUED", "may still start", False),
        ("STARTED", r"continues \(STARTED\)", False),
        ("CANCELED", "was canceled before it started", True),
    ],
)
def test_the_state_of_a_run_is_reported_when_its_cancellation_was_not_answered(
    dagster: StandIn, becomes: str, message: str, *, can_retry: bool
) -> None:
    run_id = dagster.add("QUEUED")
    dagster.daemons = [DEAD_DAEMON]

    def lose_answer(operation: str) -> Response | None:
        if operation != "Terminate":
            return None
        dagster.runs[run_id].status = becomes
        return Response(status_code=502)

    dagster.instead = lose_answer
    with pytest.raises(DagsterUnavailable, match=message) as failure:
        _with_runs(dagster, lambda of: of.wait(BACKUP, run_id, _caller()))
    assert (failure.value.run_id, failure.value.can_retry) == (run_id, can_retry)


def test_a_run_that_the_daemon_starts_during_its_cancellation_is_not_said_to_be_canceled(
    dagster: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = dagster.add("QUEUED")
    dagster.daemons = [DEAD_DAEMON]

    async def start(seconds: float) -> None:
        if dagster.count("Terminate"):
            dagster.runs[run_id].status = "STARTING"
        await asyncio.sleep(seconds)

    monkeypatch.setattr(anyio, "sleep", start)
    with pytest.raises(RunUnresolved, match=r"continues \(STARTING\)"):
        _with_runs(dagster, lambda of: of.wait(BACKUP, run_id, _caller()))


@pytest.mark.parametrize("status", ["QUEUED", "STARTED"])
def test_a_service_that_stops_cancels_what_has_not_started(dagster: StandIn, status: str) -> None:
    run_id = dagster.add(status)

    async def stop(of: Runs) -> None:
        waiting = _wait(of, run_id)
        await _queried(dagster)
        began = time.monotonic()
        of.stop()
        with pytest.raises(DagsterUnavailable, match="is being stopped") as failure:
            await waiting
        assert failure.value.can_retry == (status == "QUEUED")
        with pytest.raises(DagsterUnavailable, match="is being stopped"):
            await of.wait(BACKUP, run_id, _caller())
        assert time.monotonic() - began < 2.5

    _with_runs(dagster, stop)
    assert dagster.runs[run_id].status == ("CANCELED" if status == "QUEUED" else "STARTED")


def test_a_run_continues_when_its_caller_disconnects(dagster: StandIn) -> None:
    run_id = dagster.add("STARTED", JOB)

    with pytest.raises(ClientDisconnect):
        _with_runs(dagster, lambda of: of.wait(BACKUP, run_id, _caller(disconnects=True)))
    assert dagster.runs[run_id].status == "STARTED"
    assert dagster.count("Terminate") == 0
