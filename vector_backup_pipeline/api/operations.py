"""Backup and restore: job, parameters, checks and Chinese texts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from vector_backup_pipeline.api.errors import RunUnresolved, TaskDirectoryNotFound
from vector_backup_pipeline.engine.errors import (
    BackupError,
    DatabaseError,
    InvalidParams,
    MissingRequiredParams,
    ResourceNotFound,
    ServiceUnavailable,
)
from vector_backup_pipeline.jobs.backup import check_backup, vector_backup_job
from vector_backup_pipeline.jobs.restore import check_restore, vector_restore_job
from vector_backup_pipeline.parameters.backup import BackupParameters
from vector_backup_pipeline.parameters.restore import RestoreParameters

_P = TypeVar("_P", BackupParameters, RestoreParameters)
_TASK_ID = ("task_id",)

# What to do about an error that a second call would only repeat.
_ADVICE = {
    InvalidParams.error_type: "请检查请求参数",
    MissingRequiredParams.error_type: "缺少必需的参数",
}


@dataclass(frozen=True)
class Operation(Generic[_P]):
    """A job that the API starts. `thing` is its name in Chinese, `performed` the key in its result
    that is true if it did anything."""

    job: str
    thing: str
    performed: str
    parameters: type[_P]
    check: Callable[[_P], None]

    @property
    def done(self) -> str:
        return f"{self.thing}完成"

    @property
    def started(self) -> str:
        return f"{self.thing}已启动"

    @property
    def going_on(self) -> str:
        return f"{self.thing}进行中"

    def failed(self, error_type: str) -> str:
        return f"{self.thing}失败，{_ADVICE.get(error_type, '请稍后重试')}"

    @property
    def cancelled(self) -> str:
        return f"{self.thing}已取消"

    @property
    def cancelling(self) -> str:
        return f"{self.thing}取消请求已提交"

    @property
    def unresolved(self) -> str:
        return f"{self.thing}结果未知，任务可能仍会执行，请查询任务状态，不要重复提交"

    @property
    def nothing_done(self) -> str:
        return f"{self.thing}未执行：没有要求任何操作"


BACKUP: Operation[BackupParameters] = Operation(
    job=vector_backup_job.name,
    thing="Vector表备份",
    performed="backup_performed",
    parameters=BackupParameters,
    check=check_backup,
)
RESTORE: Operation[RestoreParameters] = Operation(
    job=vector_restore_job.name,
    thing="Vector表恢复",
    performed="restore_performed",
    parameters=RestoreParameters,
    check=check_restore,
)

NO_CONNECTION = "数据库连接失败，请检查连接配置"
INVALID_TASK_ID = "无效的task_id格式，只能包含字母、数字和下划线"


def no_task_directory(task_id: str) -> str:
    return f"指定的任务目录不存在: {task_id}"


def refusal_text(operation: Operation[Any], error: BackupError, task_id: str | None) -> str:
    """The text for a call that was refused before a run was launched."""
    if any(problem.keys == _TASK_ID for problem in error.problems):
        return INVALID_TASK_ID
    if isinstance(error, TaskDirectoryNotFound):
        return no_task_directory(task_id or "")
    if isinstance(error, RunUnresolved):
        return operation.unresolved
    return operation.failed(error.error_type)


def failure_text(
    operation: Operation[Any],
    error_type: str,
    task_id: str | None,
    *,
    can_retry: bool,
    has_reached_tables: bool,
) -> str:
    """The text for a run that failed."""
    if error_type == ServiceUnavailable.error_type:
        return NO_CONNECTION
    # A rejected login or a lost connection.
    if error_type == DatabaseError.error_type and (can_retry or not has_reached_tables):
        return NO_CONNECTION
    # A backup looks up nothing but the task directory.
    if operation is BACKUP and task_id and error_type == ResourceNotFound.error_type:
        return no_task_directory(task_id)
    return operation.failed(error_type)
