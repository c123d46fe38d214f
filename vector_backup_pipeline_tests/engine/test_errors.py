"""One hierarchy of errors, and its HTTP statuses."""

import re

import pytest

from vector_backup_pipeline.api import errors as errors_of_the_api
from vector_backup_pipeline.engine.errors import (
    BackupError,
    RunCancelled,
    as_backup_error,
    error_classes,
    http_status_of,
)
from vector_backup_pipeline_tests.fix_dagster import CHECKOUT


@pytest.mark.parametrize(
    ("status", "error_types"),
    [
        (400, ["INVALID_PARAMS", "MISSING_REQUIRED_PARAMS"]),
        (404, ["RESOURCE_NOT_FOUND", "TABLE_NOT_FOUND"]),
        (409, ["RUN_CANCELED"]),
        (500, ["PERMISSION_DENIED", "DATABASE_ERROR", "STORAGE_ERROR", "INTEGRITY_ERROR"]),
        (500, ["INTERNAL_ERROR", "OF_ANOTHER_VERSION", ""]),
        (503, ["SERVICE_UNAVAILABLE", "LOCK_TIMEOUT"]),
    ],
)
def test_an_error_type_has_one_status(status: int, error_types: list[str]) -> None:
    assert [http_status_of(error_type) for error_type in error_types] == [status] * len(error_types)


def test_no_error_type_has_two_statuses() -> None:
    assert errors_of_the_api.Unauthorized.http_status == 401
    for kind in error_classes():
        assert http_status_of(kind.error_type) == kind.http_status


def test_any_exception_becomes_one_of_ours() -> None:
    ours = BackupError("Known.")

    assert as_backup_error(ours) is ours
    assert as_backup_error(ValueError("odd")).message == "ValueError: odd"
    assert isinstance(as_backup_error(KeyboardInterrupt()), RunCancelled)


def test_the_documentation_explains_every_error_type() -> None:
    document = (CHECKOUT / "docs" / "operations.md").read_text()
    rows = re.findall(r"^\| `([A-Z_]+)` \| (no|yes|usually) \| [^|]+ \| [^|]+ \|$", document, re.M)

    assert len(rows) == len(dict(rows))
    retries: dict[str, set[bool]] = {}
    for kind in (kind for kind in error_classes() if ".engine." in kind.__module__):
        retries.setdefault(kind.error_type, set()).add(kind.can_retry)
    words = {(False,): "no", (True,): "yes", (False, True): "usually"}
    assert dict(rows) == {name: words[tuple(sorted(each))] for name, each in retries.items()}
