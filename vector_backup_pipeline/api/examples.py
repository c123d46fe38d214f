"""Examples of the data in answers. `timestamp` is added to each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vector_backup_pipeline.api.errors import (
    RESPONSES,
    BodyTooLarge,
    DagsterUnavailable,
    RangeNotSatisfiable,
    StateConflict,
    Unauthorized,
)
from vector_backup_pipeline.api.operations import BACKUP as _BACKUP
from vector_backup_pipeline.api.operations import INVALID_TASK_ID, NO_CONNECTION, no_task_directory
from vector_backup_pipeline.api.operations import RESTORE as _RESTORE
from vector_backup_pipeline.engine.errors import (
    BackupError,
    InvalidParams,
    ResourceNotFound,
    RunCancelled,
    ServiceUnavailable,
    StorageError,
)

Example = Mapping[str, Any]

TIME = "2025-07-21T23:49:14+08:00"
_RUN_ID = "9a3c1f2e-6b0d-4a57-8f11-2d3c4b5a6978"
_TABLE = "langchain_pg_embedding"
_FILE = f"{_TABLE}_20250721_234914.csv"
_SIZE = {"file_size": "764.0 KB", "duration": 0.231}
_FULL_DISK = {
    "error_type": StorageError.error_type,
    "detail": f"Could not write {_FILE}.tmp: No space left on device.",
}

RUN: Example = {"run_id": _RUN_ID}
_BACKUP_RESULT: Example = {
    "backup_performed": True,
    "truncate_performed": True,
    "backup_directory": "/data/training_data/vector_bak",
    "tables_backed_up": {_TABLE: {"success": True, "row_count": 58, "backup_file": _FILE, **_SIZE}},
    "truncate_results": {
        _TABLE: {"success": True, "rows_before": 58, "rows_after": 0, "duration": 0.068}
    },
    "notices": [],
    "errors": [],
    "duration": 0.498,
    "timestamp": TIME,
}
_FAILED_RESULT: Example = {
    **_BACKUP_RESULT,
    "truncate_performed": False,
    "tables_backed_up": {
        _TABLE: {
            "success": False,
            "error_type": StorageError.error_type,
            "error": _FULL_DISK["detail"],
            "duration": 0.231,
        }
    },
    "truncate_results": {},
    "errors": [f"{_TABLE}: STORAGE_ERROR: {_FULL_DISK['detail']}"],
}
_RESTORE_RESULT: Example = {
    "restore_performed": True,
    "outcome": "restored",
    "truncate_performed": False,
    "backup_info": {
        "backup_path": "training_data/vector_bak",
        "timestamp": "20250721_234914",
        "backup_date": TIME,
    },
    "truncate_results": {},
    "restore_results": {
        _TABLE: {
            "success": True,
            "source_file": _FILE,
            "rows_restored": 58,
            "digest_matches": True,
            **_SIZE,
        }
    },
    "not_recreated": {},
    "recall_at_10": [],
    "notices": [],
    "errors": [],
    "duration": 0.402,
    "timestamp": TIME,
}
BACKUP: Example = {"response": _BACKUP.done, **_BACKUP_RESULT, **RUN}
RESTORE: Example = {"response": _RESTORE.done, **_RESTORE_RESULT, **RUN}

_PROGRESS: Example = {
    "state": "running",
    "rows": 25,
    "size": "329.3 KB",
    "percent": 43.1,
    "rows_per_second": 14210.5,
    "seconds_left": 4.6,
}
RUNNING_STATUS: Example = {
    "response": _BACKUP.going_on,
    **RUN,
    "status": "STARTED",
    "created_at": TIME,
    "started_at": TIME,
    "ended_at": None,
    "progress": {_TABLE: _PROGRESS},
    "result": None,
    "error": None,
}
FAILED_BACKUP_STATUS: Example = {
    **RUNNING_STATUS,
    "response": _BACKUP.failed(StorageError.error_type),
    "status": "FAILURE",
    "ended_at": TIME,
    "progress": {_TABLE: {**_PROGRESS, "state": "failed", "seconds_left": None}},
    "result": _FAILED_RESULT,
    "error": {**_FULL_DISK, "code": 500, "can_retry": False},
}
RESTORE_STATUS: Example = {**RUNNING_STATUS, "response": _RESTORE.going_on}
_LISTED: Example = {
    "timestamp": "20250721_234914",
    "collection_file": None,
    "embedding_file": _FILE,
    "files": [_FILE],
    "collection_size": None,
    "embedding_size": "764.0 KB",
    "backup_date": TIME,
    "complete": True,
    "has_log": True,
    "log_file": "vector_backup_log.txt",
    "state": "complete",
    "verified": "passed",
    "verified_at": TIME,
    "drill": None,
    "drilled_at": None,
    "truncated": [],
    "source_database": "rag",
    "mode": "full",
    "builds_on": None,
    "tables": {_TABLE: {"rows": 58, "bytes": 782336}},
}
LIST: Example = {
    "response": "查询成功",
    "backup_locations": [
        {
            "type": "global",
            "task_id": None,
            "relative_path": "training_data/vector_bak",
            "backups": [_LISTED],
        }
    ],
    "summary": {
        "total_locations": 1,
        "total_backup_sets": 1,
        "global_backups": 1,
        "task_backups": 0,
        "scan_time": TIME,
    },
}
HEALTH: Example = {
    "response": "服务正常",
    "dagster": "1.13.27",
    "daemons": {"QUEUED_RUN_COORDINATOR": "alive", "SCHEDULER": "alive"},
}


def _error(
    kind: type[BackupError], detail: str, response: str | None = None, **more: Any
) -> Example:
    return {
        "response": response or RESPONSES[kind],
        "error_type": kind.error_type,
        "detail": detail,
        **more,
    }


_NO_DAGSTER = (
    "Dagster's webserver was not reached (ConnectError). Check that it is running, and "
    "VECTOR_BACKUP_DAGSTER_URL."
)
# By HTTP status and summary.
ERRORS: Mapping[int, Mapping[str, Example]] = {
    400: {
        "Invalid task_id": _error(
            InvalidParams,
            "task_id is 'a-b', which is not valid: only ASCII letters, digits and '_' are allowed, "
            "at most 200 of them.",
            INVALID_TASK_ID,
        )
    },
    401: {
        "Token missing or wrong": _error(
            Unauthorized,
            "Send the header 'Authorization: Bearer' with the token of VECTOR_BACKUP_API_TOKEN.",
        )
    },
    404: {
        "No such task": _error(
            ResourceNotFound,
            "The task directory training_data/corpus_7 does not exist.",
            no_task_directory("corpus_7"),
        ),
        "Not found": _error(ResourceNotFound, f"There is no file {_FILE}."),
    },
    409: {
        "Run canceled": _error(
            RunCancelled, RunCancelled().message, _BACKUP.cancelled, can_retry=True, run_id=_RUN_ID
        ),
        "Run already ended": _error(
            StateConflict, f"The run {_RUN_ID} has ended already: SUCCESS."
        ),
    },
    413: {
        "More than 64 KiB": _error(
            BodyTooLarge,
            "The request's body has more than 65536 bytes. The parameters of a run need a few "
            "hundred.",
        )
    },
    416: {"Range after the end": _error(RangeNotSatisfiable, RangeNotSatisfiable(209).message)},
    500: {
        "No space": {
            "response": _BACKUP.failed(StorageError.error_type),
            **_FULL_DISK,
            **RUN,
            "result": _FAILED_RESULT,
        }
    },
    503: {
        "Dagster unavailable": _error(DagsterUnavailable, _NO_DAGSTER, can_retry=True),
        "Database unavailable": _error(
            ServiceUnavailable,
            "No database server was reached: connection refused. Check host and port, and that "
            "the server is running.",
            NO_CONNECTION,
            can_retry=True,
            run_id=_RUN_ID,
        ),
        "The run may still start": _error(
            DagsterUnavailable,
            f"{_NO_DAGSTER} The run {_RUN_ID} could not be canceled and may still start. Ask for "
            "its status, or cancel it, before you send this call again.",
            _BACKUP.unresolved,
            can_retry=False,
            run_id=_RUN_ID,
        ),
    },
}
