"""What people are told of errors; backups and restores have words of their own in operations.py."""

from __future__ import annotations

from collections.abc import Mapping

from vector_backup_pipeline.api.errors import (
    BodyTooLarge,
    DagsterUnavailable,
    MethodNotAllowed,
    RangeNotSatisfiable,
    StateConflict,
    Unauthorized,
)
from vector_backup_pipeline.engine.errors import (
    BackupError,
    InvalidParams,
    MissingRequiredParams,
    ResourceNotFound,
    StorageError,
)

# The special before the general.
RESPONSES: Mapping[type[BackupError], str] = {
    BodyTooLarge: "请求体超过大小限制",
    MethodNotAllowed: "该地址不支持此请求方法",
    RangeNotSatisfiable: "请求的字节范围不在文件内",
    StateConflict: "当前状态不允许此操作",
    Unauthorized: "缺少访问令牌或令牌无效",
    DagsterUnavailable: "Dagster服务不可用，请稍后重试",
    MissingRequiredParams: "缺少必需的参数",
    InvalidParams: "请求参数无效，请检查后重试",
    ResourceNotFound: "请求的资源不存在",
    StorageError: "存储访问失败，请稍后重试",
    BackupError: "服务内部错误，请稍后重试",
}
NO_DAEMON = "Dagster守护进程未运行，任务不会启动"
