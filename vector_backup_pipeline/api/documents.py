"""What each address may answer, as the OpenAPI document says it: schemas with examples."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from vector_backup_pipeline.api.envelope import DONE, MESSAGES
from vector_backup_pipeline.api.errors import (
    BodyTooLarge,
    RangeNotSatisfiable,
    StateConflict,
    Unauthorized,
)
from vector_backup_pipeline.api.run_progress import TableProgress
from vector_backup_pipeline.engine.catalog import BackupList
from vector_backup_pipeline.engine.errors import kinds_by_status
from vector_backup_pipeline.engine.results import BackupResult, RestoreResult

_RUN_ID = "9a3c1f2e-6b0d-4a57-8f11-2d3c4b5a6978"
_TIME = "2025-07-21T23:49:14+08:00"
# The key of `answers` for a file's bytes.
FILE = "file"


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid")

    response: str = Field(description="For people.")
    timestamp: datetime


class BackupData(BackupResult):
    response: str
    run_id: str


class RestoreData(RestoreResult):
    response: str
    run_id: str


class LaunchedData(_Data):
    run_id: str


class RunError(BaseModel):
    """What failed the run; `code` is what the waiting call is answered with."""

    model_config = ConfigDict(extra="forbid")

    error_type: str
    code: int
    detail: str
    can_retry: bool


class StatusData(_Data):
    """`result` and `error` are null until the run has ended."""

    run_id: str
    status: Literal[
        "QUEUED",
        "NOT_STARTED",
        "MANAGED",
        "STARTING",
        "STARTED",
        "SUCCESS",
        "FAILURE",
        "CANCELING",
        "CANCELED",
    ]
    created_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    progress: dict[str, TableProgress]
    result: BackupResult | RestoreResult | None
    error: RunError | None


class ListData(BackupList):
    response: str
    timestamp: datetime


class HealthData(_Data):
    """Dagster's version, and each of its daemons that has to run."""

    dagster: str
    daemons: dict[str, Literal["alive", "missing"]]


class ErrorData(_Data):
    """`error_type` for programs, `detail` precisely and in English. `can_retry` is there only when
    it is true; `run_id` and `result` when there was a run."""

    error_type: str
    detail: str
    can_retry: Literal[True] = True
    run_id: str = ""
    result: BackupResult | RestoreResult | None = None
    dagster: str = ""
    daemons: dict[str, Literal["alive", "missing"]] = {}


_RESULT: Mapping[str, Any] = {
    "backup_performed": True,
    "truncate_performed": False,
    "backup_directory": "/data/training_data/vector_bak",
    "tables_backed_up": {
        "langchain_pg_collection": {
            "success": True,
            "row_count": 4,
            "file_size": "209.0 B",
            "backup_file": "langchain_pg_collection_20250721_234914.csv",
            "duration": 0.105,
        }
    },
    "truncate_results": {},
    "errors": [],
    "duration": 0.498,
    "timestamp": _TIME,
}
_RESTORED: Mapping[str, Any] = {
    "restore_performed": True,
    "outcome": "restored",
    "truncate_performed": False,
    "backup_info": {
        "backup_path": "training_data/vector_bak",
        "timestamp": "20250721_234914",
        "backup_date": _TIME,
    },
    "truncate_results": {},
    "restore_results": {
        "langchain_pg_collection": {
            "success": True,
            "source_file": "langchain_pg_collection_20250721_234914.csv",
            "rows_restored": 4,
            "file_size": "209.0 B",
            "duration": 0.031,
            "digest_matches": True,
        }
    },
    "not_recreated": {},
    "recall_at_10": [],
    "notices": [],
    "errors": [],
    "duration": 0.402,
    "timestamp": _TIME,
}
_PROGRESS = {
    "state": "running",
    "rows": 50000,
    "size": "764.0 KB",
    "percent": 43.1,
    "rows_per_second": 14210.5,
    "seconds_left": 4.6,
}
_LISTED: Mapping[str, Any] = {
    "backup_locations": [
        {
            "type": "global",
            "task_id": None,
            "relative_path": "training_data/vector_bak",
            "backups": [
                {
                    "timestamp": "20250721_234914",
                    "collection_file": "langchain_pg_collection_20250721_234914.csv",
                    "embedding_file": "langchain_pg_embedding_20250721_234914.csv",
                    "files": [
                        "langchain_pg_collection_20250721_234914.csv",
                        "langchain_pg_embedding_20250721_234914.csv",
                    ],
                    "collection_size": "209.0 B",
                    "embedding_size": "764.0 KB",
                    "backup_date": _TIME,
                    "complete": True,
                    "has_log": True,
                    "log_file": "vector_backup_log.txt",
                }
            ],
        }
    ],
    "summary": {
        "total_locations": 1,
        "total_backup_sets": 1,
        "global_backups": 1,
        "task_backups": 0,
        "scan_time": _TIME,
    },
}
_ERROR_EXAMPLES: Mapping[int, tuple[str, str, str]] = {
    400: (
        "无效的task_id格式，只能包含字母、数字和下划线",
        "INVALID_PARAMS",
        "The task_id 'a-b' is not valid: only ASCII letters, digits and '_' are allowed.",
    ),
    401: (
        "缺少访问令牌或令牌无效",
        Unauthorized.error_type,
        "Send the header 'Authorization: Bearer' with the token of VECTOR_BACKUP_API_TOKEN.",
    ),
    404: ("请求的资源不存在", "RESOURCE_NOT_FOUND", f"There is no run {_RUN_ID}. Check its id."),
    409: ("当前状态不允许此操作", StateConflict.error_type, "The run has ended already: SUCCESS."),
    413: ("请求体超过大小限制", BodyTooLarge.error_type, "The request's body is too large."),
    416: (
        "请求的字节范围不在文件内",
        RangeNotSatisfiable.error_type,
        "The file has 209 bytes; the range begins behind them.",
    ),
    500: (
        "Vector表备份失败，请稍后重试",
        "STORAGE_ERROR",
        "Could not write langchain_pg_embedding_20250721_234914.csv.tmp: No space left on device.",
    ),
    503: (
        "数据库连接失败，请检查连接配置",
        "SERVICE_UNAVAILABLE",
        "No database server was reached: connection refused. Check host and port, and that the "
        "server is running.",
    ),
}


def _good(name: str, data: type[BaseModel], code: int, example: Mapping[str, Any]) -> Any:
    told = {"code": code, "success": True, "message": DONE, "data": example}
    return code, {
        "model": _envelope(name, data, told),
        "description": HTTPStatus(code).phrase,
        "content": {"application/json": {"example": told}},
    }


def _bad(code: int) -> Any:
    response, error_type, detail = _ERROR_EXAMPLES[code]
    error_types = sorted({kind.error_type for kind in kinds_by_status()[code]})
    of_data: dict[str, Any] = {"error_type": (Literal[tuple(error_types)], ...)}
    data = create_model(
        f"Error{code}Data", __base__=ErrorData, __doc__=ErrorData.__doc__, **of_data
    )
    told = {
        "code": code,
        "success": False,
        "message": MESSAGES[code],
        "data": {
            "response": response,
            "error_type": error_type,
            "detail": detail,
            "timestamp": _TIME,
        },
    }
    return code, {
        "model": _envelope(f"Error{code}", data, told),
        "description": HTTPStatus(code).phrase,
        "content": {"application/json": {"example": told}},
    }


def _envelope(name: str, data: type[BaseModel], told: Mapping[str, Any]) -> type[BaseModel]:
    """Its three constants are those of the example."""
    fields: dict[str, Any] = {
        key: (Literal[told[key]], ...) for key in ("code", "success", "message")
    }
    fields["data"] = (data, ...)
    return create_model(name, __config__=ConfigDict(extra="forbid"), **fields)


_BYTES = {"schema": {"type": "string", "format": "binary"}}
_FILE_HEADERS = {
    "ETag": {"schema": {"type": "string"}, "description": "Changes whenever the bytes do."},
    "Accept-Ranges": {"schema": {"type": "string"}},
    "Content-Disposition": {"schema": {"type": "string"}},
}
_FILE_ANSWERS: Mapping[int | str, dict[str, Any]] = {
    200: {"description": "The whole file.", "headers": _FILE_HEADERS, "content": {"*/*": _BYTES}},
    206: {
        "description": "The range that was asked for.",
        "headers": {**_FILE_HEADERS, "Content-Range": {"schema": {"type": "string"}}},
        "content": {"*/*": _BYTES},
    },
    304: {"description": "It has not changed."},
}
_GOOD = {
    "backed_up": _good(
        "BackedUp", BackupData, 200, {"response": "Vector表备份完成", **_RESULT, "run_id": _RUN_ID}
    ),
    "restored": _good(
        "Restored",
        RestoreData,
        200,
        {"response": "Vector表恢复完成", **_RESTORED, "run_id": _RUN_ID},
    ),
    "started": _good(
        "Started",
        LaunchedData,
        202,
        {"response": "Vector表备份已启动", "run_id": _RUN_ID, "timestamp": _TIME},
    ),
    "cancelling": _good(
        "Cancelling",
        LaunchedData,
        202,
        {"response": "Vector表备份取消请求已提交", "run_id": _RUN_ID, "timestamp": _TIME},
    ),
    "status": _good(
        "Status",
        StatusData,
        200,
        {
            "response": "Vector表备份进行中",
            "run_id": _RUN_ID,
            "status": "STARTED",
            "created_at": _TIME,
            "started_at": _TIME,
            "ended_at": None,
            "progress": {"langchain_pg_embedding": _PROGRESS},
            "result": None,
            "error": None,
            "timestamp": _TIME,
        },
    ),
    "listed": _good(
        "Listed", ListData, 200, {"response": "查询成功", **_LISTED, "timestamp": _TIME}
    ),
    "healthy": _good(
        "Healthy",
        HealthData,
        200,
        {
            "response": "服务正常",
            "dagster": "1.13.27",
            "daemons": {"QUEUED_RUN_COORDINATOR": "alive", "SCHEDULER": "alive"},
            "timestamp": _TIME,
        },
    ),
}


def answers(*kinds: str | int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route: good ones by their names, errors by their status."""
    told: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        if kind == FILE:
            told |= _FILE_ANSWERS
        elif isinstance(kind, int):
            code, about = _bad(kind)
            told[code] = about
        else:
            code, about = _GOOD[kind]
            told[code] = about
    return told
