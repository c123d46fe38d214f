"""A call that waits for its run, while Dagster comes and goes."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import Request
from starlette.responses import Response
from starlette.types import Message

from vector_backup_pipeline.api import run_watch, runs
from vector_backup_pipeline.api.dagster_client import RunEvent, RunReading
from vector_backup_pipeline.api.errors import CallerGone, DagsterUnavailable, RunUnresolved
from vector_backup_pipeline.api.operations import BACKUP
from vector_backup_pipeline.api.run_answers import outcome_of_end
from vector_backup_pipeline.api.run_progress import RunProgress
from vector_backup_pipeline.api.runs import Runs
from vector_backup_pipeline.engine.storage.opening import open_root
from vector_backup_pipeline_tests.api.dagster_stand_in import JOB, StandIn, event


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_watch, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(run_watch, "_OUTAGE_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(runs, "_STILL_THERE_SECONDS", 0.02)
    monkeypatch.setattr(runs, "_LONG_IN_QUEUE_SECONDS", 0.0)


def _caller(*, goes: bool = False) -> Request:
    """A caller who waits, or has closed the connection."""

    async def receive() -> Message:
        if not goes:
            await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


def _with_runs(dagster: StandIn, root: Path, use: Callable[[Runs], Awaitable[Any]]) -> Any:
    async def patiently(of: Runs) -> Any:
        try:
            return await asyncio.wait_for(use(of), 20)
        finally:
            await of.watch.aclose()
            assert of.watch._waiting == {}

    return dagster.ask(lambda client: patiently(Runs(client, open_root(str(root), "bak"))))


def test_a_call_that_waits_outlasts_an_outage_in_the_queue_too(
    dagster: StandIn, tmp_path: Path
) -> None:
    run_id = dagster.add("QUEUED")

    async def wait(of: Runs) -> RunProgress:
        waiting = asyncio.create_task(of.end_of(BACKUP, run_id, _caller()))
        dagster.instead = lambda _: Response(status_code=502)
        while dagster.count("Run") < 1 or dagster.count("Statuses") < 3:
            await asyncio.sleep(0.005)
        assert not waiting.done()
        dagster.runs[run_id].status = "SUCCESS"
        dagster.runs[run_id].events.append(event("RunSuccessEvent"))
        dagster.instead = lambda _: None
        return await waiting

    assert _with_runs(dagster, tmp_path, wait).is_complete


def test_a_run_whose_end_can_no_longer_be_read_is_told_by_its_id(
    dagster: StandIn, tmp_path: Path
) -> None:
    run_id = dagster.add("SUCCESS", JOB, event("RunSuccessEvent"))
    dagster.instead = lambda asked: Response(status_code=502) if asked == "Run" else None

    with pytest.raises(RunUnresolved, match=f"The run {run_id} has ended") as failure:
        _with_runs(dagster, tmp_path, lambda of: of.end_of(BACKUP, run_id, _caller()))
    assert failure.value.run_id == run_id


_NO_DAEMON = {"daemonType": "QUEUED_RUN_COORDINATOR", "required": True, "healthy": False}


@pytest.mark.parametrize("status", ["QUEUED", "STARTED"])
def test_a_run_in_a_queue_that_nobody_empties_is_canceled_and_not_waited_for(
    dagster: StandIn, tmp_path: Path, status: str
) -> None:
    run_id = dagster.add(status)
    dagster.daemons = [_NO_DAEMON]

    async def wait(of: Runs) -> None:
        waiting = asyncio.create_task(of.end_of(BACKUP, run_id, _caller()))
        while not waiting.done() and dagster.count("Statuses") < 20:
            await asyncio.sleep(0.005)
        if status == "STARTED":
            assert not waiting.done()
            dagster.runs[run_id].status = "SUCCESS"
        await waiting

    if status == "STARTED":
        _with_runs(dagster, tmp_path, wait)
    else:
        with pytest.raises(DagsterUnavailable, match=r"daemon run.*was canceled") as failure:
            _with_runs(dagster, tmp_path, wait)
        assert failure.value.run_id == run_id
        assert failure.value.can_retry
        assert dagster.runs[run_id].status == "CANCELED"


@pytest.mark.parametrize(
    ("becomes", "told", "can_retry"),
    [
        ("QUEUED", "may still start", False),
        ("STARTED", r"goes on \(STARTED\)", False),
        ("CANCELED", "was canceled before it started", True),
    ],
)
def test_what_became_of_a_queued_run_whose_cancellation_was_not_answered_is_told(
    dagster: StandIn, tmp_path: Path, becomes: str, told: str, *, can_retry: bool
) -> None:
    run_id = dagster.add("QUEUED")
    dagster.daemons = [_NO_DAEMON]

    def lose_answer(asked: str) -> Response | None:
        if asked != "Terminate":
            return None
        dagster.runs[run_id].status = becomes
        return Response(status_code=502)

    dagster.instead = lose_answer
    with pytest.raises(DagsterUnavailable, match=told) as failure:
        _with_runs(dagster, tmp_path, lambda of: of.end_of(BACKUP, run_id, _caller()))
    assert (failure.value.run_id, failure.value.can_retry) == (run_id, can_retry)


@pytest.mark.parametrize("status", ["QUEUED", "STARTED"])
def test_a_service_that_stops_cancels_what_has_not_started(
    dagster: StandIn, tmp_path: Path, status: str
) -> None:
    run_id = dagster.add(status)

    async def stop(of: Runs) -> None:
        waiting = asyncio.create_task(of.end_of(BACKUP, run_id, _caller()))
        while dagster.count("Statuses") < 1:
            await asyncio.sleep(0.005)
        of.watch.stop()
        await waiting

    with pytest.raises(DagsterUnavailable, match="is being stopped") as failure:
        _with_runs(dagster, tmp_path, stop)
    assert failure.value.can_retry == (status == "QUEUED")
    assert dagster.runs[run_id].status == ("CANCELED" if status == "QUEUED" else "STARTED")


def test_a_run_may_still_start_when_dagster_cannot_be_asked(
    dagster: StandIn, tmp_path: Path
) -> None:
    run_id = dagster.add("QUEUED")
    dagster.daemons = [_NO_DAEMON]
    dagster.instead = lambda asked: (
        Response(status_code=502) if asked == "Statuses" and dagster.count("Health") else None
    )
    with pytest.raises(RunUnresolved, match="may still start"):
        _with_runs(dagster, tmp_path, lambda of: of.end_of(BACKUP, run_id, _caller()))


def test_a_caller_who_has_gone_is_not_waited_for_and_the_run_goes_on(
    dagster: StandIn, tmp_path: Path
) -> None:
    run_id = dagster.add()

    with pytest.raises(CallerGone):
        _with_runs(dagster, tmp_path, lambda of: of.end_of(BACKUP, run_id, _caller(goes=True)))
    assert dagster.runs[run_id].status == "STARTED"
    assert dagster.count("Terminate") == 0


@pytest.mark.parametrize(
    ("started_at", "told"), [(None, "before it started"), (2.5, "It may still be running")]
)
def test_of_a_run_that_was_cancelled_without_a_result_it_is_told_whether_it_had_begun(
    started_at: float | None, told: str
) -> None:
    ended = RunEvent("RunCanceledEvent", None, {})
    reading = RunReading(JOB, "CANCELED", 1.5, started_at, 3.5, [ended], "1", False)

    outcome = outcome_of_end(RunProgress("run", reading), "/srv/backups")

    assert told in str(outcome.message)
    assert outcome.error_type == "RUN_CANCELED"
    assert outcome.can_retry
