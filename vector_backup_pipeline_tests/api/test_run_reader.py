"""A run's progress from its events, with one query per second for any number of callers."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timezone
from typing import Any

import pytest
from starlette.responses import Response

from vector_backup_pipeline.api import run_reader
from vector_backup_pipeline.api.dagster_client import RunEvent, RunReading
from vector_backup_pipeline.api.errors import DagsterUnavailable
from vector_backup_pipeline.api.models import RunError
from vector_backup_pipeline.api.run_reader import RunProgress, RunReader
from vector_backup_pipeline.engine.errors import BackupError, ResourceNotFound
from vector_backup_pipeline.engine.results import BackupResult
from vector_backup_pipeline.operations import BACKUP
from vector_backup_pipeline_tests.api.dagster_stand_in import JOB, StandIn, event

STEP = "export_table[docs]"
RESULT: BackupResult = BackupResult.refused(
    BackupError("No."), datetime(2025, 7, 21, tzinfo=timezone.utc)
)


class Clock:
    """A clock that a test sets."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(run_reader, "time", clock)
    return clock


def _progress(
    *events: RunEvent, status: str = "STARTED", started_at: float | None = 2.0
) -> RunProgress:
    progress = RunProgress("run")
    progress.take(_reading(*events, status=status, started_at=started_at))
    return progress


def _reading(
    *events: RunEvent, status: str = "STARTED", started_at: float | None = 2.0
) -> RunReading:
    return RunReading(JOB, status, 1.0, started_at, None, events, "1", has_more=False)


def _event(kind: str, step: str | None = None, /, **metadata: Any) -> RunEvent:
    return RunEvent(kind, step, metadata)


PLANNED = [
    _event("EngineEvent", "pin_snapshot", table="docs", step=STEP),
    _event("EngineEvent", "pin_snapshot", table="images", step="export_table[images]"),
]


def _states(progress: RunProgress) -> dict[str, str]:
    return {table: table_progress.state for table, table_progress in progress.tables.items()}


def test_tables_are_waiting_as_soon_as_they_are_planned_in_their_order() -> None:
    assert _states(_progress()) == {}
    assert _states(_progress(*PLANNED)) == {"docs": "waiting", "images": "waiting"}


@pytest.mark.parametrize("size", [1, 100])
def test_a_table_is_followed_to_its_end_however_its_events_arrive(size: int) -> None:
    events = [
        *PLANNED,
        _event("ExecutionStepStartEvent", STEP),
        _event("EngineEvent", STEP, rows=10, size="1.0 KB", percent=12.5, seconds_left=9.0),
        _event("EngineEvent", STEP, rows=20, percent=25.0, rows_per_second=6.0, seconds_left=4.0),
        _event("ExecutionStepOutputEvent", STEP, table="docs", rows=80, size="8.0 KB"),
        _event("ExecutionStepSuccessEvent", STEP),
    ]
    progress = _progress()
    for start in range(0, len(events), size):
        progress.take(_reading(*events[start : start + size]))

    assert progress.tables["docs"].model_dump() == {
        "state": "done",
        "rows": 80,
        "size": "8.0 KB",
        "percent": 100.0,
        "rows_per_second": 6.0,
        "seconds_left": None,
    }
    assert progress.tables["images"].state == "waiting"


@pytest.mark.parametrize(
    ("last", "status", "state", "other_state"),
    [
        ("ExecutionStepFailureEvent", "STARTED", "failed", "waiting"),
        ("EngineEvent", "STARTED", "running", "waiting"),
        ("EngineEvent", "CANCELED", "stopped", "stopped"),
        ("ExecutionStepFailureEvent", "FAILURE", "failed", "stopped"),
    ],
)
def test_a_table_that_is_not_finished_runs_or_has_failed_or_was_stopped(
    last: str, status: str, state: str, other_state: str
) -> None:
    estimate = _event("EngineEvent", STEP, rows=3, seconds_left=26.4)
    progress = _progress(*PLANNED, estimate, _event(last, STEP), status=status)

    assert _states(progress) == {"docs": state, "images": other_state}
    assert progress.tables["docs"].rows == 3
    assert (progress.tables["docs"].seconds_left is None) == (state != "running")


def test_events_of_other_steps_are_not_about_a_table() -> None:
    steps = ("pin_snapshot", "export_table[unknown]", "other[docs]", None)
    progress = _progress(*PLANNED, *(_event("EngineEvent", step, rows=1) for step in steps))
    assert _states(progress) == {"docs": "waiting", "images": "waiting"}


def test_the_outcome_comes_from_all_readings_together() -> None:
    error = {"error_type": "LOCK_TIMEOUT", "error": "Too long.", "can_retry": True}
    progress = _progress(_event("ExecutionStepFailureEvent", STEP, **error))
    progress.take(_reading(_event("EngineEvent", None, **{BACKUP.result_key: RESULT.as_json()})))

    assert progress.result == RESULT.as_json()
    assert progress.error == RunError(
        error_type="LOCK_TIMEOUT", code=503, detail="Too long.", can_retry=True
    )
    unknown = _progress(status="FAILURE").error
    assert unknown is not None and unknown.error_type == "INTERNAL_ERROR"


@pytest.mark.parametrize(
    ("started_at", "message"), [(None, "before it started"), (2.5, "It may still be running")]
)
def test_a_canceled_run_without_a_result_says_whether_it_had_begun(
    started_at: float | None, message: str
) -> None:
    error = _progress(status="CANCELED", started_at=started_at).error

    assert error is not None
    assert message in error.detail
    assert (error.error_type, error.code, error.can_retry) == ("RUN_CANCELED", 409, True)


def _with_reader(dagster: StandIn, use: Callable[[RunReader], Awaitable[Any]]) -> Any:
    return dagster.ask(lambda client: use(RunReader(client)))


@pytest.mark.parametrize("is_away", [False, True])
def test_a_hundred_callers_at_once_share_one_query_and_its_failure(
    dagster: StandIn, clock: Clock, is_away: bool
) -> None:
    dagster.delay = 0.02
    run_id = dagster.add()
    if is_away:
        dagster.fail()

    async def ask_at_once(reader: RunReader) -> list[Any]:
        calls = [reader.read(run_id, JOB) for _ in range(100)]
        return await asyncio.gather(*calls, return_exceptions=True)

    answers = _with_reader(dagster, ask_at_once)

    assert {type(answer) for answer in answers} == {DagsterUnavailable if is_away else RunProgress}
    assert (dagster.count("Run"), dagster.most_at_once) == (1, 1)


def test_only_new_events_are_read_in_pages_also_after_a_failure(
    dagster: StandIn, clock: Clock
) -> None:
    dagster.page = 2
    planned = event("EngineEvent", "pin", table="docs", step=STEP)
    rows = [event("EngineEvent", STEP, rows=count) for count in range(4)]
    run_id = dagster.add("STARTED", JOB, planned, *rows)
    answers = iter([None, Response(status_code=502)])
    dagster.instead = lambda _: next(answers, None)

    async def read(reader: RunReader) -> RunProgress:
        with pytest.raises(DagsterUnavailable):
            await reader.read(run_id, JOB)
        clock.now += 2
        for _ in range(10):  # A query answers all callers of a second.
            await reader.read(run_id, JOB)
        dagster.runs[run_id].events.append(event("EngineEvent", STEP, rows=9))
        clock.now += 2
        return await reader.read(run_id, JOB)

    assert _with_reader(dagster, read).tables["docs"].rows == 9
    assert [variables["after"] for _, variables in dagster.queries] == [None, "2", "2", "4", "5"]


def test_a_run_of_another_job_is_not_found(dagster: StandIn) -> None:
    run_id = dagster.add("STARTED", "vector_restore_job")

    async def ask(reader: RunReader) -> None:
        with pytest.raises(ResourceNotFound, match=JOB):
            await reader.read(run_id, JOB)
        assert (await reader.read(run_id, "vector_restore_job")).run_id == run_id

    _with_reader(dagster, ask)


def test_a_caller_who_disconnects_does_not_take_the_answer_from_others(dagster: StandIn) -> None:
    dagster.delay = 0.05
    run_id = dagster.add()

    async def ask(reader: RunReader) -> RunProgress:
        first = asyncio.ensure_future(reader.read(run_id, JOB))
        second = asyncio.ensure_future(reader.read(run_id, JOB))
        await asyncio.sleep(0.01)
        first.cancel()
        return await second

    assert _with_reader(dagster, ask).reading.status == "STARTED"
