"""Waiting for runs to end, whatever becomes of Dagster or of who waits."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response

from vector_backup_pipeline.api import run_watch
from vector_backup_pipeline.api.dagster_client import DagsterClient
from vector_backup_pipeline.api.errors import DagsterUnavailable
from vector_backup_pipeline.api.run_watch import RunWatch
from vector_backup_pipeline_tests.api.dagster_stand_in import StandIn

_PATIENCE_SECONDS = 20


class _Clock:
    """Time that passes when a test says so."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    clock = _Clock()
    monkeypatch.setattr(run_watch, "time", clock)
    return clock


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_watch, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(run_watch, "_OUTAGE_LOOK_SECONDS", 0.01)


def _with_watch(dagster: StandIn, use: Callable[[RunWatch], Awaitable[Any]]) -> Any:
    async def patiently(watch: RunWatch) -> Any:
        try:
            return await asyncio.wait_for(use(watch), _PATIENCE_SECONDS)
        finally:
            await watch.aclose()
            # Nobody and nothing is left.
            assert watch._waiting == {}
            assert len(asyncio.all_tasks()) == 1

    return dagster.ask(lambda client: patiently(RunWatch(client)))


async def _looked(dagster: StandIn, more: int = 1) -> None:
    """When Dagster has been asked as often again."""
    wanted = dagster.count("Statuses") + more
    while dagster.count("Statuses") < wanted:
        await asyncio.sleep(0.005)


def _waiting(watch: RunWatch, *run_ids: str) -> list[asyncio.Task[None]]:
    return [asyncio.create_task(watch.ended(run_id)) for run_id in run_ids]


@pytest.mark.parametrize("status", ["SUCCESS", "FAILURE", "CANCELED"])
def test_who_waits_is_told_when_the_run_has_ended(dagster: StandIn, status: str) -> None:
    run_id = dagster.add("QUEUED")

    async def wait(watch: RunWatch) -> None:
        (waiting,) = _waiting(watch, run_id)
        for each in ("STARTED", "CANCELING"):
            dagster.runs[run_id].status = each
            await _looked(dagster, 2)
            assert not waiting.done()
        dagster.runs[run_id].status = status
        await waiting

    _with_watch(dagster, wait)


def test_a_run_that_has_ended_already_is_told_at_once(dagster: StandIn) -> None:
    run_id = dagster.add("SUCCESS")
    _with_watch(dagster, lambda watch: watch.ended(run_id))
    assert dagster.count("Statuses") == 1


def test_a_run_that_was_deleted_meanwhile_is_waited_for_no_longer(dagster: StandIn) -> None:
    run_id = dagster.add()

    async def wait(watch: RunWatch) -> None:
        (waiting,) = _waiting(watch, run_id)
        await _looked(dagster)
        del dagster.runs[run_id]
        await waiting

    _with_watch(dagster, wait)


def test_those_who_wait_for_several_runs_share_one_query(dagster: StandIn) -> None:
    dagster.delay = 0.01
    run_ids = [dagster.add() for _ in range(5)]

    async def wait(watch: RunWatch) -> None:
        waiting = _waiting(watch, *run_ids * 20)
        await _looked(dagster, 3)
        dagster.runs[run_ids[0]].status = "SUCCESS"
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        await _looked(dagster)
        assert [each.done() for each in waiting] == [True, *[False] * 4] * 20
        for run_id in run_ids:
            dagster.runs[run_id].status = "SUCCESS"
        await asyncio.gather(*waiting)

    _with_watch(dagster, wait)

    assert dagster.most_at_once == 1
    assert dagster.asked[1][1]["runs"] == sorted(run_ids)
    assert run_ids[0] not in dagster.asked[-1][1]["runs"]


def test_when_nobody_waits_nobody_asks(dagster: StandIn) -> None:
    run_id = dagster.add("SUCCESS")

    async def wait(watch: RunWatch) -> None:
        await watch.ended(run_id)
        asked = dagster.count("Statuses")
        await asyncio.sleep(0.05)
        assert dagster.count("Statuses") == asked
        # And again, when somebody does.
        await watch.ended(run_id)

    _with_watch(dagster, wait)


@pytest.mark.parametrize("down", [Response(status_code=502), JSONResponse({"errors": ["x"]})])
def test_an_outage_shorter_than_the_patience_is_outlasted(
    dagster: StandIn, down: Response, caplog: pytest.LogCaptureFixture
) -> None:
    run_id = dagster.add()

    async def wait(watch: RunWatch) -> None:
        (waiting,) = _waiting(watch, run_id)
        await _looked(dagster)
        dagster.instead = lambda _: down
        await _looked(dagster, 5)
        dagster.runs[run_id].status = "SUCCESS"
        await _looked(dagster, 2)
        assert not waiting.done()
        dagster.instead = lambda _: None
        await waiting

    with caplog.at_level(logging.WARNING):
        _with_watch(dagster, wait)
    assert "Dagster's webserver" in caplog.text


def test_an_outage_longer_than_the_patience_fails_with_the_runs_id(
    dagster: StandIn, clock: _Clock
) -> None:
    run_ids = [dagster.add(), dagster.add()]

    async def wait(watch: RunWatch) -> None:
        waiting = _waiting(watch, *run_ids)
        await _looked(dagster)
        dagster.instead = lambda _: Response(status_code=502)
        await _looked(dagster, 2)
        clock.now += 61
        failures = await asyncio.gather(*waiting, return_exceptions=True)

        for run_id, failure in zip(run_ids, failures, strict=True):
            assert isinstance(failure, DagsterUnavailable)
            assert failure.run_id == run_id
        # Whoever waits later is answered again.
        dagster.instead = lambda _: None
        dagster.runs[run_ids[0]].status = "SUCCESS"
        await watch.ended(run_ids[0])

    _with_watch(dagster, wait)


def test_outages_with_an_answer_between_them_are_not_added_up(
    dagster: StandIn, clock: _Clock
) -> None:
    run_id = dagster.add()

    async def wait(watch: RunWatch) -> None:
        (waiting,) = _waiting(watch, run_id)
        for _ in range(3):
            await _looked(dagster, 2)
            dagster.instead = lambda _: Response(status_code=502)
            clock.now += 40
            await _looked(dagster, 2)
            dagster.instead = lambda _: None
        dagster.runs[run_id].status = "SUCCESS"
        await waiting

    _with_watch(dagster, wait)


def test_a_stop_frees_who_waits_at_once_also_while_dagster_is_slow(dagster: StandIn) -> None:
    run_id = dagster.add()

    async def wait(watch: RunWatch) -> None:
        waiting = _waiting(watch, *[run_id] * 10)
        await _looked(dagster)
        dagster.delay = 5
        await asyncio.sleep(0.05)
        began = time.monotonic()
        watch.stop()
        failures = await asyncio.gather(*waiting, return_exceptions=True)
        assert time.monotonic() - began < 2.5
        assert {type(each) for each in failures} == {DagsterUnavailable}
        assert "being stopped" in str(failures[0])
        # Nor does anybody begin to wait any more.
        with pytest.raises(DagsterUnavailable, match="being stopped"):
            await watch.ended(run_id)
        watch.stop()
        dagster.delay = 0

    _with_watch(dagster, wait)


def test_who_gives_up_leaves_nothing_behind(dagster: StandIn) -> None:
    run_id, other = dagster.add(), dagster.add()

    async def wait(watch: RunWatch) -> None:
        gone, stays = _waiting(watch, run_id, other)
        await _looked(dagster)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert list(watch._waiting.values()) == [other]
        await _looked(dagster, 2)
        assert dagster.asked[-1][1]["runs"] == [other]
        dagster.runs[other].status = "SUCCESS"
        await stays

    _with_watch(dagster, wait)


def test_a_defect_lets_nobody_wait_for_ever(
    dagster: StandIn, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = dagster.add()

    async def defective(_: DagsterClient, run_ids: object) -> dict[str, str]:
        raise KeyError(run_ids)

    monkeypatch.setattr(DagsterClient, "statuses", defective)

    async def wait(watch: RunWatch) -> None:
        with pytest.raises(DagsterUnavailable, match="see its log") as failure:
            await watch.ended(run_id)
        assert failure.value.run_id == run_id
        monkeypatch.undo()
        dagster.runs[run_id].status = "SUCCESS"
        await watch.ended(run_id)

    _with_watch(dagster, wait)
    assert "KeyError" in caplog.text
