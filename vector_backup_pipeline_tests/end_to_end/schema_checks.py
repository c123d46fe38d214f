"""Checks of responses beyond their schema. Schemathesis loads this module in its own process
(SCHEMATHESIS_HOOKS)."""

import re
from typing import Any

import schemathesis
from schemathesis.core.failures import AcceptedNegativeData
from schemathesis.openapi.checks import RejectedPositiveData

# Reasons for a refusal that no schema can describe.
_NOT_IN_SCHEMA = [
    re.compile(reason)
    for reason in (
        # One parameter of an address excludes the other.
        "^task_id and global_only exclude each other",
        # The right format, but not a date: the 31st of February.
        r"^timestamp is '[0-9]{6}(29|30|31)_[0-9]{6}', which is not valid",
        # These depend on the settings, on what two names mean, and on bytes.
        "would empty the table",
        "names the table .* twice",
        "^rename has ",
    )
]


@schemathesis.check
def shows_no_defect(
    _context: Any, response: schemathesis.Response, case: schemathesis.Case[Any]
) -> None:
    is_file = case.operation.label.endswith("{file}") and response.status_code < 400
    for defect in ("INTERNAL_ERROR", "Traceback"):
        if not is_file and defect in response.text:
            raise AssertionError(f"The answer has {defect}: {response.text}")


@schemathesis.hook
def filter_failure(
    _context: Any,
    failure: AssertionError,
    _case: schemathesis.Case[Any],
    response: schemathesis.Response,
) -> bool:
    if isinstance(failure, AcceptedNegativeData):
        # The test limits it to paths under the root, but only the run can tell.
        return "in body - backup_path" not in failure.message
    if not isinstance(failure, RejectedPositiveData):
        return True
    detail = response.json()["data"]["detail"]
    return not any(reason.search(detail) for reason in _NOT_IN_SCHEMA)
