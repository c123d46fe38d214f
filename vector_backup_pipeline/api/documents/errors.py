"""Examples of errors: what each address says of each status, by the address's subject."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from vector_backup_pipeline.api.documents.data import (
    BackupErrorData,
    ErrorData,
    HealthErrorData,
    RestoreErrorData,
)
from vector_backup_pipeline.api.documents.examples import (
    EMBEDDING_FILE,
    FAILED_BACKUP_RESULT,
    FAILED_RESTORE_RESULT,
    FULL_DISK,
    NO_SET,
    RUN_ID,
)
from vector_backup_pipeline.api.errors import (
    BodyTooLarge,
    DagsterUnavailable,
    RangeNotSatisfiable,
    StateConflict,
    Unauthorized,
)
from vector_backup_pipeline.api.operations import (
    BACKUP,
    INVALID_TASK_ID,
    NO_CONNECTION,
    RESTORE,
    no_task_directory,
)
from vector_backup_pipeline.api.responses import NO_DAEMON, RESPONSES
from vector_backup_pipeline.engine.errors import (
    BackupError,
    InvalidParams,
    MissingRequiredParams,
    ResourceNotFound,
    RunCancelled,
    ServiceUnavailable,
    StorageError,
    TableNotFound,
)

Subject = Literal["backup", "restore", "run", "files", "health"]


@dataclass(frozen=True)
class ErrorExample:
    """An error as a caller sees it; `more` is what its data has beside the usual keys."""

    summary: str
    response: str
    error_type: str
    detail: str
    more: Mapping[str, Any] = field(default_factory=dict)


_RETRY = {"can_retry": True}
_BAD_TASK_ID = ErrorExample(
    "A malformed task_id",
    INVALID_TASK_ID,
    InvalidParams.error_type,
    "task_id is 'a-b', which is not valid: only ASCII letters, digits and '_' are allowed, at most "
    "200 of them.",
)
_NO_TASK = ErrorExample(
    "No such task",
    no_task_directory("corpus_7"),
    ResourceNotFound.error_type,
    "The task directory training_data/corpus_7 does not exist.",
)
_NO_DATABASE = ErrorExample(
    "No database server was reached",
    NO_CONNECTION,
    ServiceUnavailable.error_type,
    "No database server was reached: connection refused. Check host and port, and that the "
    "server is running.",
    {**_RETRY, "run_id": RUN_ID},
)
_NO_DAGSTER = ErrorExample(
    "Dagster does not answer",
    RESPONSES[DagsterUnavailable],
    ServiceUnavailable.error_type,
    "Dagster's webserver was not reached (ConnectError). Check that it is running, and "
    "VECTOR_BACKUP_DAGSTER_URL.",
    _RETRY,
)
_UNRESOLVED = replace(
    _NO_DAGSTER,
    summary="Dagster does not answer, and the run may still start",
    detail=f"{_NO_DAGSTER.detail} The run {RUN_ID} could not be canceled and may still start. Ask "
    "for its status, or cancel it, before you send this call again.",
    more={"can_retry": False, "run_id": RUN_ID},
)
_NO_TOKEN = ErrorExample(
    "No token, or a wrong one",
    RESPONSES[Unauthorized],
    Unauthorized.error_type,
    "Send the header 'Authorization: Bearer' with the token of VECTOR_BACKUP_API_TOKEN.",
)
_TOO_LARGE = ErrorExample(
    "More than 64 KiB",
    RESPONSES[BodyTooLarge],
    BodyTooLarge.error_type,
    "The request's body has more than 65536 bytes. The parameters of a run need a few hundred.",
)
_DEFECT = ErrorExample(
    "A defect of this service",
    RESPONSES[BackupError],
    "INTERNAL_ERROR",
    "Something went wrong that should not; see the service's log.",
)
# By status, for every subject that has none of its own.
_OF_ALL: Mapping[int, dict[str, ErrorExample]] = {
    401: {"token": _NO_TOKEN},
    413: {"large": _TOO_LARGE},
    500: {"defect": _DEFECT},
    503: {"dagster": _NO_DAGSTER},
}
_OF_SUBJECTS: Mapping[Subject, Mapping[int, dict[str, ErrorExample]]] = {
    "backup": {
        400: {
            "task_id": _BAD_TASK_ID,
            "unknown": ErrorExample(
                "An unknown key",
                BACKUP.failed(InvalidParams.error_type),
                InvalidParams.error_type,
                f"Unknown: 'table'. There are: {', '.join(BACKUP.parameters.model_fields)}.",
            ),
        },
        404: {
            "task": _NO_TASK,
            "table": ErrorExample(
                "No such table, as the run found out",
                BACKUP.failed(TableNotFound.error_type),
                TableNotFound.error_type,
                "There is no table 'docs' on the connection's search path.",
                {"run_id": RUN_ID},
            ),
        },
        409: {
            "canceled": ErrorExample(
                "Somebody canceled the run",
                BACKUP.cancelled,
                RunCancelled.error_type,
                RunCancelled().message,
                {**_RETRY, "run_id": RUN_ID},
            )
        },
        500: {
            "disk": ErrorExample(
                "No space",
                BACKUP.failed(StorageError.error_type),
                StorageError.error_type,
                FULL_DISK["detail"],
                {"run_id": RUN_ID, "result": FAILED_BACKUP_RESULT},
            )
        },
        503: {
            "database": _NO_DATABASE,
            "dagster": replace(_NO_DAGSTER, response=BACKUP.failed(ServiceUnavailable.error_type)),
            "unresolved": replace(_UNRESOLVED, response=BACKUP.unresolved),
        },
    },
    "restore": {
        400: {
            "timestamp": ErrorExample(
                "No timestamp",
                RESTORE.failed(MissingRequiredParams.error_type),
                MissingRequiredParams.error_type,
                "timestamp is missing: name the backup set to restore, such as 20250721_234914, "
                "or latest. vector-backup list shows what is there.",
            ),
            "task_id": _BAD_TASK_ID,
        },
        404: {
            "task": _NO_TASK,
            "set": ErrorExample(
                "No such backup set, as the run found out",
                RESTORE.failed(ResourceNotFound.error_type),
                ResourceNotFound.error_type,
                NO_SET["detail"],
                {"run_id": RUN_ID, "result": FAILED_RESTORE_RESULT},
            ),
        },
        409: {
            "canceled": ErrorExample(
                "Somebody canceled the run",
                RESTORE.cancelled,
                RunCancelled.error_type,
                RunCancelled().message,
                {**_RETRY, "run_id": RUN_ID},
            )
        },
        500: {
            "damaged": ErrorExample(
                "A stored file is not what was written",
                RESTORE.failed("INTEGRITY_ERROR"),
                "INTEGRITY_ERROR",
                f"The file {EMBEDDING_FILE} is not what was written: its SHA-256 differs.",
                {"run_id": RUN_ID},
            )
        },
        503: {
            "database": _NO_DATABASE,
            "dagster": replace(_NO_DAGSTER, response=RESTORE.failed(ServiceUnavailable.error_type)),
            "unresolved": replace(_UNRESOLVED, response=RESTORE.unresolved),
        },
    },
    "run": {
        404: {
            "run": ErrorExample(
                "No such run",
                RESPONSES[ResourceNotFound],
                ResourceNotFound.error_type,
                f"There is no run {RUN_ID} of vector_backup_job. Check its id.",
            )
        },
        409: {
            "ended": ErrorExample(
                "It has ended",
                RESPONSES[StateConflict],
                StateConflict.error_type,
                f"The run {RUN_ID} has ended already: SUCCESS.",
            )
        },
    },
    "files": {
        400: {
            "timestamp": ErrorExample(
                "A malformed parameter",
                RESPONSES[InvalidParams],
                InvalidParams.error_type,
                _BAD_TASK_ID.detail,
            )
        },
        404: {
            "missing": ErrorExample(
                "No such task, set or file",
                RESPONSES[ResourceNotFound],
                ResourceNotFound.error_type,
                "There are no backups in the task corpus_7. Check task_id, and see the list of "
                "backups for what is there.",
            )
        },
        416: {
            "range": ErrorExample(
                "A range behind the file's end",
                RESPONSES[RangeNotSatisfiable],
                RangeNotSatisfiable.error_type,
                RangeNotSatisfiable(209).message,
            )
        },
        500: {
            "storage": ErrorExample(
                "The storage refuses",
                RESPONSES[StorageError],
                StorageError.error_type,
                f"The file {EMBEDDING_FILE!r} can't be read: the storage refused. This service's "
                "log says why.",
            )
        },
    },
    "health": {
        503: {
            "dagster": _NO_DAGSTER,
            "daemon": ErrorExample(
                "Runs would wait in the queue for ever",
                NO_DAEMON,
                ServiceUnavailable.error_type,
                "Dagster's daemon gives no sign of life, so runs would wait in the queue for "
                "ever. Start it: dagster-daemon run.",
                {
                    **_RETRY,
                    "dagster": "1.13.27",
                    "daemons": {"QUEUED_RUN_COORDINATOR": "missing", "SCHEDULER": "missing"},
                },
            ),
        }
    },
}
# Whose data has keys of its own, at the statuses that a run or Dagster may lead to.
_DATA: Mapping[Subject, tuple[type[ErrorData], tuple[int, ...]]] = {
    "backup": (BackupErrorData, (400, 404, 409, 500, 503)),
    "restore": (RestoreErrorData, (400, 404, 409, 500, 503)),
    "health": (HealthErrorData, (503,)),
}
# What the answer has beside its body.
ERROR_HEADERS: Mapping[int, dict[str, Any]] = {
    401: {
        "WWW-Authenticate": {
            "description": "`Bearer`",
            "required": True,
            "schema": {"type": "string", "enum": ["Bearer"]},
        }
    },
    416: {
        "Content-Range": {
            "description": "The size of the file in bytes: `bytes */209`",
            "required": True,
            "schema": {"type": "string", "pattern": r"^bytes \*/[0-9]+$"},
        }
    },
}
ERROR_DESCRIPTIONS: Mapping[int, str] = {
    400: "The call is wrong.",
    401: "The caller does not show that it may call.",
    404: "What is named is not there.",
    409: "The state of the run does not allow it, or the run was canceled.",
    413: "The body is too large.",
    416: "None of the file's bytes is in the range.",
    500: "It was tried and failed.",
    503: "Something that is needed is not there now.",
}


def error_examples(subject: Subject, code: int) -> dict[str, ErrorExample]:
    return _OF_SUBJECTS[subject].get(code) or _OF_ALL[code]


def error_data(subject: Subject, code: int) -> tuple[str, type[ErrorData]]:
    """How the schema of that error is called, and its data."""
    data, codes = _DATA.get(subject, (ErrorData, ()))
    return (f"{subject.title()}Error{code}", data) if code in codes else (f"Error{code}", ErrorData)
