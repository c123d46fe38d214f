"""What no answer may do, beside what its schema says. Loaded by schemathesis, as a process of its
own, by SCHEMATHESIS_HOOKS."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from typing import Any

import schemathesis
from schemathesis.openapi.checks import RejectedPositiveData

_ROOT_VARIABLE = "SCHEMA_CHECKS_ROOT"
# The one key that may hold a path.
_KEPT = re.compile(r'"backup_directory":\s*"[^"]*"')
_NEVER = ("INTERNAL_ERROR", "Traceback", sys.prefix, tempfile.gettempdir())
_UNTOLD = [
    re.compile(reason)
    for reason in (
        # One parameter of an address excludes the other.
        "^task_id and global_only were both given",
        # Of the right form, but no day: the 31st of February.
        r"^The timestamp '[0-9]{6}(29|30|31)_[0-9]{6}' is not valid",
        # These depend on the settings, on what two names mean, and on bytes.
        "would empty the table",
        "names the table .* twice",
        "^rename has ",
    )
]


@schemathesis.check
def tells_no_defect_and_no_path(
    _context: Any, response: schemathesis.Response, case: schemathesis.Case[Any]
) -> None:
    """A file is the caller's own; everything else is ours."""
    if case.operation.label.endswith("{file}") and response.status_code < 400:
        return
    told = _KEPT.sub("", response.text)
    for never in (*_NEVER, os.environ[_ROOT_VARIABLE]):
        if never in told:
            raise AssertionError(f"The answer has {never}: {told}")


@schemathesis.hook
def filter_failure(
    _context: Any,
    failure: AssertionError,
    _case: schemathesis.Case[Any],
    response: schemathesis.Response,
) -> bool:
    """What is refused for a reason that no schema can tell is not held against the document."""
    if not isinstance(failure, RejectedPositiveData):
        return True
    detail = response.json()["data"]["detail"]
    return not any(reason.search(detail) for reason in _UNTOLD)
