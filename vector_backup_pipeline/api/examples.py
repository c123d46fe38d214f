"""Examples of the data in answers, by summary. The OpenAPI document adds `timestamp`."""

from collections.abc import Mapping
from typing import Any

from vector_backup_pipeline.api.access import NO_TOKEN
from vector_backup_pipeline.api.errors import (
    RESPONSES,
    BodyTooLarge,
    RangeNotSatisfiable,
    RunUnresolved,
    StateConflict,
)
from vector_backup_pipeline.engine import errors

Example = Mapping[str, Any]
Examples = Mapping[str, Example]

TIME = "2025-07-21T23:49:14+08:00"
_RUN_ID = "9a3c1f2e-6b0d-4a57-8f11-2d3c4b5a6978"
_TABLE = "langchain_pg_embedding"
_FILE = f"{_TABLE}_20250721_234914.csv"
_SIZE = {"file_size": "764.0 KB", "duration": 0.231}

BACKUP: Examples = {
    "Backed up and truncated": {
        "response": "Vector表备份完成",
        "backup_performed": True,
        "truncate_performed": True,
        "backup_directory": "/data/training_data/vector_bak",
        "tables_backed_up": {
            _TABLE: {"success": True, "row_count": 58, "backup_file": _FILE, **_SIZE}
        },
        "truncate_results": {
            _TABLE: {"success": True, "rows_before": 58, "rows_after": 0, "duration": 0.068}
        },
        "notices": [],
        "errors": [],
        "duration": 0.498,
        "run_id": _RUN_ID,
    }
}
RESTORE: Examples = {
    "Restored": {
        "response": "Vector表恢复完成",
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
        "run_id": _RUN_ID,
    }
}
RUN: Examples = {"Requested": {"response": "Vector表备份已启动", "run_id": _RUN_ID}}
STATUS: Examples = {
    "Running": {
        "response": "Vector表备份进行中",
        "run_id": _RUN_ID,
        "status": "STARTED",
        "created_at": TIME,
        "started_at": TIME,
        "ended_at": None,
        "progress": {
            _TABLE: {
                "state": "running",
                "rows": 25,
                "size": "329.3 KB",
                "percent": 43.1,
                "rows_per_second": 14210.5,
                "seconds_left": 4.6,
            }
        },
        "result": None,
        "error": None,
    }
}
DIFF: Examples = {
    "One table": {
        "response": "查询成功",
        "from": "20250720_234914",
        "to": "20250721_234914",
        "tables": {f"public.{_TABLE}": {"added": 12, "changed": 3, "removed": 1}},
    }
}
LIST: Examples = {
    "One backup set": {
        "response": "查询成功",
        "backup_locations": [
            {
                "type": "global",
                "task_id": None,
                "relative_path": "training_data/vector_bak",
                "backups": [
                    {
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
                ],
                "other_files": [],
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
}
HEALTH: Examples = {
    "Healthy": {
        "response": "服务正常",
        "dagster": "1.13.27",
        "daemons": {"QUEUED_RUN_COORDINATOR": "alive", "SCHEDULER": "alive"},
    }
}


def _error(
    summary: str, error: errors.BackupError, response: str | None = None, **more: Any
) -> Examples:
    example = {
        "response": response or RESPONSES[type(error)],
        "error_type": error.error_type,
        "detail": error.message,
    }
    return {summary: example | more}


# By HTTP status.
ERRORS: Mapping[int, Examples] = {
    400: _error(
        "Invalid task_id",
        errors.InvalidParams("task_id is 'a-b': only ASCII letters, digits and '_' are allowed."),
        "无效的task_id格式，只能包含字母、数字和下划线",
    ),
    401: _error("Token missing or wrong", NO_TOKEN),
    404: _error(
        "No such task",
        errors.ResourceNotFound("The task directory /data/training_data/corpus_7 does not exist."),
        "指定的任务目录不存在: corpus_7",
    ),
    409: _error(
        "Run already ended", StateConflict(f"The run {_RUN_ID} has already ended: SUCCESS.")
    ),
    413: _error("More than 64 KiB", BodyTooLarge("The request's body has more than 65536 bytes.")),
    416: _error("Range after the end", RangeNotSatisfiable(209)),
    500: _error(
        "No space",
        errors.StorageError(f"Could not write {_FILE}.tmp: No space left on device."),
        "Vector表备份失败，请稍后重试",
        run_id=_RUN_ID,
    ),
    503: _error(
        "The run may still start",
        RunUnresolved(
            f"Dagster's webserver was not reached. The run {_RUN_ID} could not be canceled and may "
            "still start. Ask for its status before you send this call again."
        ),
        "Vector表备份结果未知，任务可能仍会执行，请查询任务状态，不要重复提交",
        can_retry=False,
        run_id=_RUN_ID,
    ),
}
