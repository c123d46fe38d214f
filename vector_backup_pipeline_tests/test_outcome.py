"""The outcome of a run, written to its events and read from them."""

from datetime import datetime, timezone
from typing import Any

import dagster as dg
import pytest
from dagster._core.events import EngineEventData

from vector_backup_pipeline.engine.errors import DatabaseError, InvalidParams, LockTimeout
from vector_backup_pipeline.engine.results import BackupResult, ExportedTable
from vector_backup_pipeline.operations import BACKUP, OPERATIONS, Operation
from vector_backup_pipeline.outcome import (
    RunOutcome,
    failing_step,
    has_outcome,
    outcome_metadata,
    outcome_of,
    read_outcome,
)

RESULT = BackupResult(
    backup_performed=True,
    truncate_performed=False,
    backup_directory="/backups",
    tables_backed_up={
        "z": ExportedTable(row_count=1, file_size="9.0 B", backup_file="z.csv", duration=0.1)
    },
    truncate_results={},
    errors=[],
    duration=0.5,
    timestamp=datetime(2025, 7, 21, 23, 49, 14, tzinfo=timezone.utc),
)


STORED = {BACKUP.result_key: RESULT.as_json()}
STEP_ERROR = {"error_type": "LOCK_TIMEOUT", "error": "First.", "can_retry": True}
LATER_ERROR = {"error_type": "STORAGE_ERROR", "error": "Later.", "can_retry": False}


def _event(metadata: dict[str, dg.MetadataValue]) -> dg.DagsterEvent:
    return dg.DagsterEvent(
        dg.DagsterEventType.ENGINE_EVENT.value,
        "job",
        event_specific_data=EngineEventData(metadata=metadata),
    )


def test_result_and_error_survive_dagsters_storage_in_their_order() -> None:
    event = _event(outcome_metadata(BACKUP, RESULT, LockTimeout("Too long.")))
    stored = dg.deserialize_value(dg.serialize_value(event), dg.DagsterEvent)

    outcome = read_outcome([stored])

    assert outcome == RunOutcome(RESULT.as_json(), "LOCK_TIMEOUT", "Too long.", can_retry=True)
    assert list(outcome.result or {}) == list(RESULT.as_json())


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_each_operation_has_a_result_for_a_refused_run(operation: Operation) -> None:
    moment = datetime(2025, 7, 21, 23, 49, 14, 567, tzinfo=timezone.utc)

    result = operation.result.refused(InvalidParams("No."), moment)

    output = result.as_json()
    assert (output.pop("errors"), output.pop("timestamp")) == (
        ["INVALID_PARAMS: No."],
        "2025-07-21T23:49:14+00:00",
    )
    assert output.pop("outcome", "not_restored") == "not_restored"
    assert not any(output.values())


def test_an_error_of_ours_fails_its_step_with_its_type_and_without_a_second_try() -> None:
    with pytest.raises(dg.Failure) as raised, failing_step():
        raise DatabaseError("Gone.")

    assert raised.value.description == "DATABASE_ERROR: Gone."
    assert raised.value.metadata["error_type"].value == "DATABASE_ERROR"
    assert raised.value.metadata["can_retry"].value is True
    assert raised.value.allow_retries is False


def test_a_defect_is_not_disguised() -> None:
    with pytest.raises(ZeroDivisionError), failing_step():
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("events", "result", "error_type"),
    [
        ([STORED], RESULT.as_json(), None),
        ([], None, "INTERNAL_ERROR"),
        ([{"rows": 1}], None, "INTERNAL_ERROR"),
        ([{"rows": 1}, STEP_ERROR, LATER_ERROR], None, "LOCK_TIMEOUT"),
        ([STEP_ERROR, STORED | LATER_ERROR], RESULT.as_json(), "STORAGE_ERROR"),
        ([STEP_ERROR, STORED], RESULT.as_json(), "LOCK_TIMEOUT"),
        ([STORED, STEP_ERROR], RESULT.as_json(), "LOCK_TIMEOUT"),
        # Of another version.
        ([{BACKUP.result_key: {"something_new": 1}}], {"something_new": 1}, None),
    ],
)
def test_the_outcome_is_the_result_and_its_error_or_that_of_the_first_failed_step(
    events: list[dict[str, Any]], result: dict[str, Any] | None, error_type: str | None
) -> None:
    outcome = outcome_of(events)

    assert (outcome.result, outcome.error_type) == (result, error_type)
    assert outcome.can_retry is (error_type == "LOCK_TIMEOUT")
    assert any(map(has_outcome, events)) is (error_type != "INTERNAL_ERROR")
