"""Examples of what good answers hold: one story, of LangChain's two tables on a day in July."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RUN_ID = "9a3c1f2e-6b0d-4a57-8f11-2d3c4b5a6978"
TIME = "2025-07-21T23:49:14+08:00"
_STAMP = "20250721_234914"
COLLECTION_FILE = f"langchain_pg_collection_{_STAMP}.csv"
EMBEDDING_FILE = f"langchain_pg_embedding_{_STAMP}.csv"
_FULL_DISK = f"Could not write {EMBEDDING_FILE}.tmp: No space left on device."

Example = Mapping[str, Any]

BACKUP_RESULT: Example = {
    "backup_performed": True,
    "truncate_performed": False,
    "backup_directory": "/data/training_data/vector_bak",
    "tables_backed_up": {
        "langchain_pg_collection": {
            "success": True,
            "row_count": 4,
            "file_size": "209.0 B",
            "backup_file": COLLECTION_FILE,
            "duration": 0.105,
        },
        "langchain_pg_embedding": {
            "success": True,
            "row_count": 58,
            "file_size": "764.0 KB",
            "backup_file": EMBEDDING_FILE,
            "duration": 0.231,
        },
    },
    "truncate_results": {},
    "notices": [],
    "errors": [],
    "duration": 0.498,
    "timestamp": TIME,
}
TRUNCATED_RESULT: Example = {
    **BACKUP_RESULT,
    "truncate_performed": True,
    "truncate_results": {
        "langchain_pg_embedding": {
            "success": True,
            "rows_before": 58,
            "rows_after": 0,
            "duration": 0.068,
        }
    },
}
FAILED_BACKUP_RESULT: Example = {
    **BACKUP_RESULT,
    "tables_backed_up": {
        "langchain_pg_collection": BACKUP_RESULT["tables_backed_up"]["langchain_pg_collection"],
        "langchain_pg_embedding": {
            "success": False,
            "error_type": "STORAGE_ERROR",
            "error": _FULL_DISK,
            "duration": 0.231,
        },
    },
    "errors": [f"langchain_pg_embedding: STORAGE_ERROR: {_FULL_DISK}"],
}
RESTORE_RESULT: Example = {
    "restore_performed": True,
    "outcome": "restored",
    "truncate_performed": False,
    "backup_info": {
        "backup_path": "training_data/vector_bak",
        "timestamp": _STAMP,
        "backup_date": TIME,
    },
    "truncate_results": {},
    "restore_results": {
        "langchain_pg_collection": {
            "success": True,
            "source_file": COLLECTION_FILE,
            "rows_restored": 4,
            "file_size": "209.0 B",
            "duration": 0.031,
            "digest_matches": True,
        },
        "langchain_pg_embedding": {
            "success": True,
            "source_file": EMBEDDING_FILE,
            "rows_restored": 58,
            "file_size": "764.0 KB",
            "duration": 0.087,
            "digest_matches": True,
        },
    },
    "not_recreated": {},
    "recall_at_10": [],
    "notices": [],
    "errors": [],
    "duration": 0.402,
    "timestamp": TIME,
}
FAILED_RESTORE_RESULT: Example = {
    **RESTORE_RESULT,
    "restore_performed": False,
    "outcome": "not_restored",
    "backup_info": None,
    "restore_results": {},
    "errors": [
        "RESOURCE_NOT_FOUND: There is no backup set 20250721_234914 in training_data/vector_bak."
    ],
}
_RUNNING = {
    "state": "running",
    "rows": 25,
    "size": "329.3 KB",
    "percent": 43.1,
    "rows_per_second": 14210.5,
    "seconds_left": 4.6,
}
_WAITING = {
    "state": "waiting",
    "rows": None,
    "size": None,
    "percent": None,
    "rows_per_second": None,
    "seconds_left": None,
}
_DONE = {**_RUNNING, "state": "done", "rows": 58, "percent": 100.0, "seconds_left": None}
_FAILED = {**_RUNNING, "state": "failed", "seconds_left": None}


def started(thing: str) -> Example:
    return {"response": f"{thing}已启动", "run_id": RUN_ID, "timestamp": TIME}


def cancelling(thing: str) -> Example:
    return {"response": f"{thing}取消请求已提交", "run_id": RUN_ID, "timestamp": TIME}


def going_on(thing: str) -> Example:
    return {
        "response": f"{thing}进行中",
        "run_id": RUN_ID,
        "status": "STARTED",
        "created_at": TIME,
        "started_at": TIME,
        "ended_at": None,
        "progress": {"langchain_pg_collection": _RUNNING, "langchain_pg_embedding": _WAITING},
        "result": None,
        "error": None,
        "timestamp": TIME,
    }


def has_ended(thing: str, result: Example) -> Example:
    return {
        **going_on(thing),
        "response": f"{thing}完成",
        "status": "SUCCESS",
        "ended_at": TIME,
        "progress": {"langchain_pg_collection": _DONE, "langchain_pg_embedding": _DONE},
        "result": result,
    }


def has_failed(thing: str, result: Example, error: Example) -> Example:
    return {
        **going_on(thing),
        "response": f"{thing}失败，请稍后重试",
        "status": "FAILURE",
        "ended_at": TIME,
        "progress": {"langchain_pg_collection": _DONE, "langchain_pg_embedding": _FAILED},
        "result": result,
        "error": error,
    }


FULL_DISK: Example = {
    "error_type": "STORAGE_ERROR",
    "code": 500,
    "detail": _FULL_DISK,
    "can_retry": False,
}
NO_SET: Example = {
    "error_type": "RESOURCE_NOT_FOUND",
    "code": 404,
    "detail": "There is no backup set 20250721_234914 in training_data/vector_bak.",
    "can_retry": False,
}
LISTED: Example = {
    "response": "查询成功",
    "backup_locations": [
        {
            "type": "global",
            "task_id": None,
            "relative_path": "training_data/vector_bak",
            "backups": [
                {
                    "timestamp": _STAMP,
                    "collection_file": COLLECTION_FILE,
                    "embedding_file": EMBEDDING_FILE,
                    "files": [COLLECTION_FILE, EMBEDDING_FILE],
                    "collection_size": "209.0 B",
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
                    "tables": {
                        "langchain_pg_collection": {"rows": 4, "bytes": 209},
                        "langchain_pg_embedding": {"rows": 58, "bytes": 782336},
                    },
                }
            ],
        }
    ],
    "summary": {
        "total_locations": 1,
        "total_backup_sets": 1,
        "global_backups": 1,
        "task_backups": 0,
        "scan_time": TIME,
    },
    "timestamp": TIME,
}
HEALTHY: Example = {
    "response": "服务正常",
    "dagster": "1.13.27",
    "daemons": {"QUEUED_RUN_COORDINATOR": "alive", "SCHEDULER": "alive"},
    "timestamp": TIME,
}
