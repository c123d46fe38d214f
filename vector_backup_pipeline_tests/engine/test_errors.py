"""One hierarchy of errors, and its HTTP statuses."""

import pytest

from vector_backup_pipeline.api import errors as errors_of_the_api
from vector_backup_pipeline.engine.errors import (
    BackupError,
    RunCancelled,
    as_backup_error,
    http_status_of,
    kinds_by_status,
)


@pytest.mark.parametrize(
    ("error_type", "status"),
    [
        ("INVALID_PARAMS", 400),
        ("MISSING_REQUIRED_PARAMS", 400),
        ("RESOURCE_NOT_FOUND", 404),
        ("TABLE_NOT_FOUND", 404),
        ("PERMISSION_DENIED", 500),
        ("DATABASE_ERROR", 500),
        ("SERVICE_UNAVAILABLE", 503),
        ("LOCK_TIMEOUT", 503),
        ("STORAGE_ERROR", 500),
        ("INTEGRITY_ERROR", 500),
        ("INTERNAL_ERROR", 500),
        ("OF_ANOTHER_VERSION", 500),
        ("", 500),
    ],
)
def test_an_error_known_by_its_name_alone_has_its_status(error_type: str, status: int) -> None:
    assert http_status_of(error_type) == status


def test_no_name_has_two_statuses() -> None:
    assert errors_of_the_api.Unauthorized.http_status == 401
    of_names: dict[str, set[int]] = {}
    for status, kinds in kinds_by_status().items():
        for kind in kinds:
            of_names.setdefault(kind.error_type, set()).add(status)
            assert http_status_of(kind.error_type) == kind.http_status

    assert all(len(statuses) == 1 for statuses in of_names.values()), of_names


def test_whatever_fails_can_be_told_as_one_of_ours() -> None:
    ours = BackupError("Known.")

    assert as_backup_error(ours) is ours
    assert as_backup_error(ValueError("odd")).message == "ValueError: odd"
    assert isinstance(as_backup_error(KeyboardInterrupt()), RunCancelled)
