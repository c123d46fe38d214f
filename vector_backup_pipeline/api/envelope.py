"""The form of every answer, the same as in the older Flask service."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from http import HTTPStatus
from typing import Any

from fastapi.responses import JSONResponse

from vector_backup_pipeline.engine.errors import InvalidParams
from vector_backup_pipeline.settings import load_settings

MESSAGES: Mapping[int, str] = {
    200: "操作成功",
    202: "操作成功",
    400: "请求参数错误",
    401: "未授权",
    404: "资源未找到",
    405: "请求方法不允许",
    409: "状态冲突",
    413: "请求体过大",
    416: "请求范围无效",
    500: "系统内部错误",
    503: "服务暂时不可用",
}


def success(response: str, data: Mapping[str, Any], code: int = HTTPStatus.OK) -> JSONResponse:
    """`data` with its own `timestamp`, or the current time."""
    return JSONResponse(
        {
            "code": code,
            "success": True,
            "message": MESSAGES[code],
            "data": {"response": response, **data, "timestamp": data.get("timestamp") or now()},
        },
        status_code=code,
    )


def failure(
    code: int,
    error_type: str,
    response: str,
    detail: str,
    *,
    can_retry: bool = False,
    more: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """`response` is for people, `detail` has the exact reason, `error_type` is for programs."""
    data: dict[str, Any] = {"response": response, "error_type": error_type, "detail": detail}
    if can_retry:
        data["can_retry"] = True
    return JSONResponse(
        {
            "code": code,
            "success": False,
            "message": MESSAGES.get(code, MESSAGES[500]),
            "data": {**data, **(more or {}), "timestamp": now()},
        },
        status_code=code,
        headers=dict(headers or {}),
    )


def now() -> str:
    """In the settings' time zone, to the second."""
    try:
        moment = load_settings().timestamps.now()
    except InvalidParams:
        moment = datetime.now(timezone.utc)
    return moment.replace(microsecond=0).isoformat()


def moment(seconds: float | None) -> str | None:
    """`seconds` since 1970 in the settings' time zone."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, load_settings().timestamps.timezone).isoformat(
        timespec="milliseconds"
    )
