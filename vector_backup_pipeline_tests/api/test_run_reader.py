"""Many who ask for a run cost Dagster one query a second."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.responses import Response

from vector_backup_pipeline.api import run_reader
from vector_backup_pipeline.api.errors import DagsterUnavailable
from vector_backup_pipeline.api.run_progress import RunProgress
from vector_backup_pipeline.api.run_reader import RunReader
from vector_backup_pipeline.engine.errors import ResourceNotFound
from vector_backup_pipeline_tests.api.dagster_stand_in import JOB, StandIn, event

UNKNOWN = "00000000-0000-4000-8000-000000000000"


class _Clock:
    """Time that passes when a test says so."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    clock = _Clock()
    monkeypatch.setattr(run_reader, "time", clock)
    return clock


def _with_reader(dagster: StandIn, use: Callable[[RunReader], Awaitable[Any]]) -> Any:
    return dagster.ask(lambda client: use(RunReader(client)))


def test_a_hundred_at_once_share_one_query(dagster: StandIn) -> None:
    dagster.delay = 0.02
    run_id = dagster.add()

    async def ask_at_once(reader: RunReader) -> list[RunProgress]:
        return await asyncio.gather(*(reader.read(run_id, JOB) for _ in range(100)))

    answers = _with_reader(dagster, ask_at_once)

    assert {each.run_id for each in answers} == {run_id}
    assert (dagster.count("Run"), dagster.most_at_once) == (1, 1)


def test_a_hundred_calls_a_second_cost_at_most_a_query_a_second(
    dagster: StandIn, clock: _Clock
) -> None:
    run_id = dagster.add()

    async def ask_for_five_seconds(reader: RunReader) -> None:
        for _ in range(500):
            await reader.read(run_id, JOB)
            clock.now += 0.01

    _with_reader(dagster, ask_for_five_seconds)

    assert dagster.count("Run") == 5


def test_what_was_read_is_at_most_a_second_old(dagster: StandIn, clock: _Clock) -> None:
    run_id = dagster.add("QUEUED")

    async def follow(reader: RunReader) -> list[str]:
        seen = [(await reader.read(run_id, JOB)).status]
        dagster.runs[run_id].status = "STARTED"
        seen.append((await reader.read(run_id, JOB)).status)
        seen.append((await reader.read(run_id, JOB, now=True)).status)
        dagster.runs[run_id].status = "CANCELING"
        clock.now += 1.1
        seen.append((await reader.read(run_id, JOB)).status)
        return seen

    assert _with_reader(dagster, follow) == ["QUEUED", "QUEUED", "STARTED", "CANCELING"]


def test_events_are_read_on_from_where_the_last_reading_ended(
    dagster: StandIn, clock: _Clock
) -> None:
    step = "export_table[docs]"
    run_id = dagster.add("STARTED", JOB, event("EngineEvent", "pin", table="docs", step=step))

    async def follow(reader: RunReader) -> RunProgress:
        for rows in (1, 2, 3):
            await reader.read(run_id, JOB)
            dagster.runs[run_id].events.append(event("EngineEvent", step, rows=rows))
            clock.now += 2
        return await reader.read(run_id, JOB)

    progress = _with_reader(dagster, follow)

    assert [asked["after"] for _, asked in dagster.asked] == [None, "1", "2", "3"]
    assert progress.tables["docs"].rows == 3


def test_a_reading_of_several_pages_is_read_to_its_end(dagster: StandIn) -> None:
    dagster.page = 2
    events = [event("EngineEvent", f"step {each}") for each in range(5)]
    run_id = dagster.add("SUCCESS", JOB, *events, event("RunSuccessEvent"))

    progress = _with_reader(dagster, lambda reader: reader.read(run_id, JOB))

    assert progress.is_complete
    assert [asked["after"] for _, asked in dagster.asked] == [None, "2", "4"]


def test_a_reading_that_broke_off_goes_on_where_it_was(dagster: StandIn, clock: _Clock) -> None:
    dagster.page = 1
    run_id = dagster.add("SUCCESS", JOB, event("EngineEvent"), event("RunSuccessEvent"))
    answers = iter([None, Response(status_code=502), None])
    dagster.instead = lambda _: next(answers)

    async def read_twice(reader: RunReader) -> RunProgress:
        with pytest.raises(DagsterUnavailable):
            await reader.read(run_id, JOB)
        clock.now += 2
        return await reader.read(run_id, JOB)

    assert _with_reader(dagster, read_twice).is_complete
    assert [asked["after"] for _, asked in dagster.asked] == [None, "1", "1"]


@pytest.mark.parametrize("now", [False, True])
def test_a_run_that_has_ended_is_not_asked_for_again(
    dagster: StandIn, clock: _Clock, now: bool
) -> None:
    run_id = dagster.add("SUCCESS", JOB, event("RunSuccessEvent"))

    async def ask_for_long(reader: RunReader) -> None:
        for _ in range(5):
            assert (await reader.read(run_id, JOB, now=now)).is_complete
            clock.now += 60

    _with_reader(dagster, ask_for_long)

    assert dagster.count("Run") == 1


def test_an_ended_run_whose_last_event_has_not_come_is_asked_for_again(
    dagster: StandIn, clock: _Clock
) -> None:
    run_id = dagster.add("SUCCESS")

    async def ask_twice(reader: RunReader) -> None:
        await reader.read(run_id, JOB)
        clock.now += 2
        dagster.runs[run_id].events.append(event("RunSuccessEvent"))
        assert (await reader.read(run_id, JOB)).is_complete

    _with_reader(dagster, ask_twice)

    assert dagster.count("Run") == 2


def test_an_unknown_run_is_asked_for_at_most_once_a_second(dagster: StandIn, clock: _Clock) -> None:
    async def ask_for_two_seconds(reader: RunReader) -> None:
        for _ in range(200):
            with pytest.raises(ResourceNotFound, match=UNKNOWN):
                await reader.read(UNKNOWN, JOB)
            clock.now += 0.01

    _with_reader(dagster, ask_for_two_seconds)

    assert dagster.count("Run") == 2


def test_a_run_that_appears_and_goes_is_told_as_it_is(dagster: StandIn, clock: _Clock) -> None:
    async def ask(reader: RunReader) -> None:
        with pytest.raises(ResourceNotFound):
            await reader.read(run_id, JOB)
        dagster.runs[run_id] = run
        clock.now += 2
        assert (await reader.read(run_id, JOB)).status == "STARTED"
        del dagster.runs[run_id]
        clock.now += 2
        with pytest.raises(ResourceNotFound):
            await reader.read(run_id, JOB)

    run_id = dagster.add()
    run = dagster.runs.pop(run_id)
    _with_reader(dagster, ask)


def test_a_run_of_another_job_is_not_there(dagster: StandIn) -> None:
    run_id = dagster.add("STARTED", "vector_restore_job")

    async def ask(reader: RunReader) -> None:
        with pytest.raises(ResourceNotFound, match=JOB):
            await reader.read(run_id, JOB)
        assert (await reader.read(run_id, "vector_restore_job")).run_id == run_id

    _with_reader(dagster, ask)


@pytest.mark.parametrize(
    "run_id",
    ["", "list", UNKNOWN.replace("0", "g"), UNKNOWN + "\n", UNKNOWN[:-1], "../x", "é" * 36],
)
def test_what_is_no_runs_id_is_not_asked_for(dagster: StandIn, run_id: str) -> None:
    with pytest.raises(ResourceNotFound):
        _with_reader(dagster, lambda reader: reader.read(run_id, JOB))
    assert dagster.asked == []


def test_only_so_many_runs_are_remembered_the_latest_asked_for(
    dagster: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_reader, "_MOST_KNOWN", 3)
    first, *others = [dagster.add() for _ in range(5)]

    async def ask(reader: RunReader) -> None:
        for run_id in others:
            await reader.read(first, JOB)
            await reader.read(run_id, JOB)
        assert len(reader._known) == 3
        await reader.read(others[0], JOB)

    _with_reader(dagster, ask)

    asked = [each["run"] for _, each in dagster.asked]
    assert asked.count(first) == 1
    assert asked.count(others[0]) == 2


def test_many_who_ask_while_dagster_is_away_share_one_failure(
    dagster: StandIn, clock: _Clock
) -> None:
    run_id = dagster.add()
    dagster.instead = lambda _: Response(status_code=503)
    dagster.delay = 0.02

    async def ask(reader: RunReader) -> None:
        failures = await asyncio.gather(
            *(reader.read(run_id, JOB) for _ in range(100)), return_exceptions=True
        )
        assert {type(each) for each in failures} == {DagsterUnavailable}
        dagster.instead = lambda _: None
        clock.now += 1.1
        assert (await reader.read(run_id, JOB)).status == "STARTED"

    _with_reader(dagster, ask)

    assert dagster.count("Run") == 2


def test_who_gives_up_does_not_take_the_answer_from_others(dagster: StandIn) -> None:
    dagster.delay = 0.05
    run_id = dagster.add()

    async def ask(reader: RunReader) -> RunProgress:
        first = asyncio.ensure_future(reader.read(run_id, JOB))
        second = asyncio.ensure_future(reader.read(run_id, JOB))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        first.cancel()
        return await second

    assert _with_reader(dagster, ask).status == "STARTED"
