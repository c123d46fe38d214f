"""Backup and restore as the API offers them: job, parameters, checks and Chinese texts."""

from dataclasses import dataclass
from typing import Any

from vector_backup_pipeline import operations
from vector_backup_pipeline.api.errors import BodyTooLarge, RunUnresolved
from vector_backup_pipeline.api.models import BackupData, RestoreData, RunError
from vector_backup_pipeline.engine import errors
from vector_backup_pipeline.parameters.backup import BackupParameters
from vector_backup_pipeline.parameters.restore import RestoreParameters

RunParameters = BackupParameters | RestoreParameters

NO_CONNECTION = "数据库连接失败，请检查连接配置"
INVALID_TASK_ID = "无效的task_id格式，只能包含字母、数字和下划线"

_TASK_ID = ("task_id",)
_ADVICE = {
    errors.InvalidParams.error_type: "请检查请求参数",
    errors.MissingRequiredParams.error_type: "缺少必需的参数",
}


@dataclass(frozen=True)
class Operation:
    """A job that the API starts.

    `thing` is its name in Chinese. `tables` is the key of the tables in its result. `start_name` is
    the operation id of its POST route; `start_help` and `cancel_help` describe its routes.
    """

    base: operations.Operation
    thing: str
    tables: str
    data: type[BackupData] | type[RestoreData]
    start_name: str
    start_help: str
    cancel_help: str

    def end_text(self, result: dict[str, Any]) -> str:
        """The text for a run that succeeded."""
        if result.get(f"{self.base.name}_performed"):
            return f"{self.thing}完成"
        return f"{self.thing}未执行：没有要求任何操作"

    def failure_text(
        self, error: RunError, result: dict[str, Any] | None, task_id: str | None
    ) -> str:
        """The text for a run that failed."""
        if error.error_type == errors.RunCancelled.error_type:
            return f"{self.thing}已取消"
        if error.error_type == errors.ServiceUnavailable.error_type:
            return NO_CONNECTION
        # A rejected login or a lost connection.
        is_before_tables = not (result and result.get(self.tables))
        is_of_database = error.error_type == errors.DatabaseError.error_type
        if is_of_database and (error.can_retry or is_before_tables):
            return NO_CONNECTION
        # A backup looks up nothing but the task directory; a restore also looks up the set.
        is_directory = error.error_type == errors.ResourceNotFound.error_type and self is BACKUP
        if is_directory and task_id:
            return _no_task_directory(task_id)
        return self._failed(error.error_type)

    def refusal_text(self, error: errors.BackupError, task_id: str | None) -> str | None:
        """The text for a call that was refused before a run was launched; None for the text that
        the error has in all calls."""
        if isinstance(error, BodyTooLarge):
            return None
        if any(problem.keys == _TASK_ID for problem in error.problems):
            return INVALID_TASK_ID
        if isinstance(error, errors.ResourceNotFound) and task_id:
            return _no_task_directory(task_id)
        if isinstance(error, RunUnresolved):
            return f"{self.thing}结果未知，任务可能仍会执行，请查询任务状态，不要重复提交"
        return self._failed(error.error_type)

    def _failed(self, error_type: str) -> str:
        return f"{self.thing}失败，{_ADVICE.get(error_type, '请稍后重试')}"


def _no_task_directory(task_id: str) -> str:
    return f"指定的任务目录不存在: {task_id}"


BACKUP = Operation(
    base=operations.BACKUP,
    thing="Vector表备份",
    tables="tables_backed_up",
    data=BackupData,
    start_name="back_up",
    start_help="Launches `vector_backup_job` and waits for its end. An empty body means all "
    "defaults.",
    cancel_help="Requests cancellation. The run removes unfinished files; its status shows what it "
    "finished. A truncate that is being committed is finished first.",
)
RESTORE = Operation(
    base=operations.RESTORE,
    thing="Vector表恢复",
    tables="restore_results",
    data=RestoreData,
    start_name="restore",
    start_help="Launches `vector_restore_job` and waits for its end. It restores all tables or "
    "none, and compares them with the backup before the commit. `timestamp` is required: a backup "
    "set's, or `latest`.",
    cancel_help="Requests cancellation. The target stays unchanged, unless the restore was "
    "committed.",
)
