"""How far a run is, folded from its events as they come."""

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

import pytest

from vector_backup_pipeline.api.dagster_client import RunEvent, RunReading
from vector_backup_pipeline.api.run_progress import RunProgress
from vector_backup_pipeline.engine.errors import BackupError
from vector_backup_pipeline.engine.results import BackupResult
from vector_backup_pipeline.operations import BACKUP

STEP = "export_table[docs]"
RESULT: BackupResult = BackupResult.refused(
    BackupError("No."), datetime(2025, 7, 21, tzinfo=timezone.utc)
)


def _reading(
    *events: RunEvent, status: str = "STARTED", cursor: str | None = "1", has_more: bool = False
) -> RunReading:
    return RunReading("job", status, 1.0, None, None, events, cursor, has_more)


def _progress(*events: RunEvent, status: str = "STARTED") -> RunProgress:
    return RunProgress("run", _reading(*events, status=status))


def _event(kind: str, step: str | None = None, /, **metadata: Any) -> RunEvent:
    return RunEvent(kind, step, metadata)


def _said(**metadata: Any) -> RunEvent:
    return _event("EngineEvent", STEP, **metadata)


PLANNED = [
    _event("EngineEvent", "pin_snapshot", table="docs", step=STEP),
    _event("EngineEvent", "pin_snapshot", table="images", step="export_table[images]"),
]


def _states(progress: RunProgress) -> dict[str, str]:
    return {table: each.state for table, each in progress.tables.items()}


def test_tables_wait_as_soon_as_they_are_known_in_their_order() -> None:
    assert _states(_progress()) == {}
    assert _states(_progress(*PLANNED)) == {"docs": "waiting", "images": "waiting"}


@pytest.mark.parametrize("size", [1, 2, 100])
def test_a_table_is_followed_to_its_end_however_its_events_arrive(size: int) -> None:
    events: Sequence[RunEvent] = [
        *PLANNED,
        _event("ExecutionStepStartEvent", STEP),
        _said(rows=10, size="1.0 KB", percent=12.5, rows_per_second=5.0, seconds_left=9.0),
        _said(rows=20, size="2.0 KB", percent=25.0, rows_per_second=6.0, seconds_left=4.0),
        _event("ExecutionStepOutputEvent", STEP, table="docs", rows=80, size="8.0 KB"),
        _event("ExecutionStepSuccessEvent", STEP),
    ]
    progress = _progress()
    for start in range(0, len(events), size):
        progress.take(_reading(*events[start : start + size], cursor=str(start)))

    assert progress.tables["docs"].model_dump() == {
        "state": "done",
        "rows": 80,
        "size": "8.0 KB",
        "percent": 100.0,
        "rows_per_second": 6.0,
        "seconds_left": None,
    }
    assert progress.tables["images"].state == "waiting"
    assert progress.cursor == str(range(0, len(events), size)[-1])


def test_a_table_runs_from_its_first_event_and_fails_with_its_step() -> None:
    progress = _progress(*PLANNED, _event("ExecutionStepStartEvent", STEP))
    assert _states(progress)["docs"] == "running"

    said = _said(rows=3, percent=3.0, seconds_left=26.4)
    progress.take(_reading(said, _event("ExecutionStepFailureEvent", STEP)))

    assert progress.tables["docs"].state == "failed"
    assert progress.tables["docs"].seconds_left is None
    assert progress.tables["docs"].rows == 3
    assert progress.tables["images"].state == "waiting"


@pytest.mark.parametrize("step", ["load_table[docs]", "export_table[docs]", "any_name"])
def test_a_step_is_followed_by_the_name_in_the_plan(step: str) -> None:
    planned = _event("EngineEvent", "before", table="app.docs", step=step)
    assert _states(_progress(planned, _event("EngineEvent", step, rows=1))) == {
        "app.docs": "running"
    }


@pytest.mark.parametrize("step", ["pin_snapshot", "export_tables", "other[docs]", None])
def test_other_steps_are_no_tables(step: str | None) -> None:
    progress = _progress(*PLANNED, _event("EngineEvent", step, rows=1, percent=1.0))
    assert progress.tables["docs"].rows is None


def test_an_event_of_a_table_that_nobody_named_is_left_out() -> None:
    assert _states(_progress(_event("EngineEvent", "export_table[unknown]", rows=1))) == {}


def test_a_cursor_that_does_not_come_does_not_send_back_to_the_beginning() -> None:
    progress = _progress()
    progress.take(_reading(cursor=None))
    assert progress.cursor == "1"


@pytest.mark.parametrize(
    ("status", "end", "is_complete"),
    [
        ("STARTED", None, False),
        ("STARTED", "RunSuccessEvent", False),
        ("CANCELING", "RunCancelingEvent", False),
        ("SUCCESS", None, False),
        ("SUCCESS", "RunSuccessEvent", True),
        ("FAILURE", "RunFailureEvent", True),
        ("CANCELED", "RunCanceledEvent", True),
    ],
)
def test_a_run_is_complete_when_it_has_ended_and_its_last_event_was_read(
    status: str, end: str | None, is_complete: bool
) -> None:
    progress = _progress(*[_event(end)] if end else [], status=status)

    assert progress.is_complete is is_complete
    assert progress.has_ended is (status in ("SUCCESS", "FAILURE", "CANCELED"))


def test_the_outcome_comes_from_all_readings_together() -> None:
    told = {"error_type": "LOCK_TIMEOUT", "error": "Too long.", "can_retry": True}
    progress = _progress(_event("ExecutionStepFailureEvent", STEP, **told))
    progress.take(_reading(_event("EngineEvent", None, **{BACKUP.result_key: RESULT.as_json()})))

    assert progress.outcome.result == RESULT.as_json()
    assert progress.outcome.error_type == "LOCK_TIMEOUT"


def test_of_a_run_that_tells_nothing_the_outcome_is_that_it_failed() -> None:
    assert _progress(status="FAILURE").outcome.error_type == "INTERNAL_ERROR"


def test_a_table_that_the_runs_end_finds_unfinished_has_stopped() -> None:
    progress = _progress(*PLANNED, _said(table="docs", rows=1, seconds_left=2.5))
    assert _states(progress) == {"docs": "running", "images": "waiting"}

    progress.take(_reading(_event("RunCanceledEvent"), status="CANCELED"))

    assert _states(progress) == {"docs": "stopped", "images": "stopped"}
    assert progress.tables["docs"].seconds_left is None
