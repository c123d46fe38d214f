"""The errors of the API, added to the hierarchy in engine/errors.py, and their Chinese texts."""

from collections.abc import Mapping

from vector_backup_pipeline.engine import errors


class Unauthorized(errors.BackupError):
    """The access token is missing or wrong."""

    error_type = "UNAUTHORIZED"
    http_status = 401


class MethodNotAllowed(errors.BackupError):
    """The address does not support this method."""

    error_type = "METHOD_NOT_ALLOWED"
    http_status = 405


class StateConflict(errors.BackupError):
    """The run's state does not allow the operation."""

    error_type = "STATE_CONFLICT"
    http_status = 409


class BodyTooLarge(errors.BackupError):
    """The request's body exceeds the limit."""

    error_type = "PAYLOAD_TOO_LARGE"
    http_status = 413


class RangeNotSatisfiable(errors.BackupError):
    """The requested range is outside the file, which has `size` bytes."""

    error_type = "RANGE_NOT_SATISFIABLE"
    http_status = 416

    def __init__(self, size: int) -> None:
        super().__init__(f"The requested range is outside the file, which has {size} bytes.")
        self.size = size


class FileChanged(errors.StorageError):
    """The file was replaced or cut off between lookup and opening."""

    can_retry = True

    def __init__(self, name: str) -> None:
        super().__init__(f"The file {name!r} changed during its download. Request it again.")


class DagsterUnavailable(errors.ServiceUnavailable):
    """Dagster does not answer, or cannot do this now.

    `run_id` is the run that was launched, if one was; it was canceled before it started.
    """

    def __init__(self, message: str, run_id: str | None = None) -> None:
        super().__init__(message)
        self.run_id = run_id


class RunUnresolved(DagsterUnavailable):
    """A run may start or continue although its call is answered with an error. A second call would
    add another run."""

    can_retry = False


# The texts for people. Subclasses come before their base. A refused backup or restore has a text
# of its own, in operations.py.
RESPONSES: Mapping[type[errors.BackupError], str] = {
    BodyTooLarge: "请求体超过大小限制",
    MethodNotAllowed: "该地址不支持此请求方法",
    RangeNotSatisfiable: "请求的字节范围不在文件内",
    StateConflict: "当前状态不允许此操作",
    Unauthorized: "缺少访问令牌或令牌无效",
    DagsterUnavailable: "Dagster服务不可用，请稍后重试",
    errors.MissingRequiredParams: "缺少必需的参数",
    errors.InvalidParams: "请求参数无效，请检查后重试",
    errors.ResourceNotFound: "请求的资源不存在",
    errors.StorageError: "存储访问失败，请稍后重试",
    errors.BackupError: "服务内部错误，请稍后重试",
}
