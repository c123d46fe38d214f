"""A run's end as its events tell it."""

from datetime import datetime, timezone

import dagster as dg
import pytest
from dagster._core.events import EngineEventData

from vector_backup_pipeline.engine.errors import DatabaseError, InvalidParams, LockTimeout
from vector_backup_pipeline.engine.results import BackupResult, ExportedTable
from vector_backup_pipeline.operations import BACKUP, OPERATIONS, Operation
from vector_backup_pipeline.outcome import (
    failing_step,
    failure,
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


def _event(metadata: dict[str, dg.MetadataValue]) -> dg.DagsterEvent:
    return dg.DagsterEvent(
        dg.DagsterEventType.ENGINE_EVENT.value,
        "job",
        event_specific_data=EngineEventData(metadata=metadata),
    )


def test_the_result_keeps_the_order_of_the_contract_through_dagsters_storage() -> None:
    stored = dg.deserialize_value(
        dg.serialize_value(_event(outcome_metadata(BACKUP, RESULT, None))), dg.DagsterEvent
    )

    outcome = read_outcome([stored])

    assert outcome.result == RESULT.as_json()
    assert list(outcome.result or {}) == list(RESULT.as_json())
    assert outcome.error_type is None


def test_an_error_beside_the_result_is_the_runs() -> None:
    outcome = read_outcome([_event(outcome_metadata(BACKUP, RESULT, LockTimeout("Too long.")))])

    assert (outcome.error_type, outcome.message, outcome.can_retry) == (
        "LOCK_TIMEOUT",
        "Too long.",
        True,
    )


def test_a_run_that_tells_nothing_has_failed() -> None:
    outcome = read_outcome([])

    assert outcome.result is None
    assert outcome.error_type == "INTERNAL_ERROR"
    assert outcome.message


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_a_refused_run_of_each_operation_has_a_result_that_says_why(operation: Operation) -> None:
    moment = datetime(2025, 7, 21, 23, 49, 14, 567, tzinfo=timezone.utc)

    result = operation.result.refused(InvalidParams("No."), moment)

    told = result.as_json()
    assert (told.pop("errors"), told.pop("timestamp")) == (
        ["INVALID_PARAMS: No."],
        "2025-07-21T23:49:14+00:00",
    )
    assert told.pop("outcome", "not_restored") == "not_restored"
    assert not any(told.values())


def test_a_call_that_never_was_a_run_has_no_result() -> None:
    assert failure(InvalidParams("No.")).result is None


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


_STEP_ERROR = {"error_type": "LOCK_TIMEOUT", "error": "First.", "can_retry": True}
_LATER_ERROR = {"error_type": "STORAGE_ERROR", "error": "Later.", "can_retry": False}
_TOLD = {BACKUP.result_key: RESULT.as_json()}


def test_the_first_failed_step_tells_of_a_run_without_a_result() -> None:
    outcome = outcome_of([{"rows": 1}, _STEP_ERROR, _LATER_ERROR])

    assert outcome.result is None
    assert (outcome.error_type, outcome.message) == ("LOCK_TIMEOUT", "First.")
    assert outcome.can_retry


def test_the_error_beside_the_result_comes_before_those_of_steps() -> None:
    outcome = outcome_of([_STEP_ERROR, _TOLD | _LATER_ERROR])

    assert (outcome.result, outcome.error_type) == (RESULT.as_json(), "STORAGE_ERROR")
    assert not outcome.can_retry


def test_a_step_that_failed_fails_a_run_whose_result_names_no_error() -> None:
    assert outcome_of([_STEP_ERROR, _TOLD]).error_type == "LOCK_TIMEOUT"
    assert outcome_of([_TOLD, _STEP_ERROR]).error_type == "LOCK_TIMEOUT"


def test_plain_values_in_any_order_are_read_as_dagsters_own_events_are() -> None:
    shuffled = {key: RESULT.as_json()[key] for key in sorted(RESULT.as_json())}

    outcome = outcome_of([{BACKUP.result_key: shuffled}])

    assert outcome == read_outcome([_event(outcome_metadata(BACKUP, RESULT, None))])
    assert list(outcome.result or {}) == list(RESULT.as_json())


@pytest.mark.parametrize(
    ("metadata", "is_told"),
    [({}, False), ({"rows": 1}, False), (_TOLD, True), (_STEP_ERROR, True)],
)
def test_what_an_outcome_is_read_from_is_known(metadata: dict[str, object], is_told: bool) -> None:
    assert has_outcome(metadata) is is_told
    assert (outcome_of([metadata]) != outcome_of([])) is is_told


def test_a_result_of_another_version_is_told_as_it_is() -> None:
    told = {"backup_performed": True, "something_new": 1}

    assert outcome_of([{BACKUP.result_key: told}]).result == told
