"""The launcher of runs that `dagster.yaml` names."""

import socket

from dagster._core.errors import DagsterLaunchFailedError, DagsterUserCodeUnreachableError
from dagster._core.launcher import (
    CheckRunHealthResult,
    DefaultRunLauncher,
    LaunchRunContext,
    WorkerStatus,
)
from dagster._core.storage.dagster_run import DagsterRun
from dagster._grpc.client import DagsterGrpcClient
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import deserialize_value


class CodeServerRunLauncher(DefaultRunLauncher):
    """Dagster's default launcher, which also detects runs whose process is gone: their code server
    was started again since, and does not know them. The code server itself reports those whose
    process ends before it does.

    For code servers started with `dagster api grpc`, as Dagster does it. `dagster code-server
    start` forgets its runs when it reloads its code.
    """

    def launch_run(self, context: LaunchRunContext) -> None:
        """Let the queue wait for a code server that is about to stop, as for one that does not
        answer. The default launcher fails the run."""
        try:
            super().launch_run(context)
        except DagsterLaunchFailedError as error:
            if error.serializable_error_info is not None:
                raise
            raise DagsterUserCodeUnreachableError(str(error)) from error

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Raises `DagsterUserCodeUnreachableError` if the code server does not answer."""
        # Dagster's is untyped.
        client: DagsterGrpcClient | None = self._get_grpc_client_for_termination(run.run_id)  # type: ignore[no-untyped-call]
        if client is None:
            # It has ended, or it is the run of a command, in a process of its own.
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        if client.socket is not None and not _is_listening(client.socket):
            # No other code server will be started at this socket.
            return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "Its code server is gone.")
        answer = client.can_cancel_execution(CanCancelExecutionRequest(run_id=run.run_id))
        if deserialize_value(answer, CanCancelExecutionResult).can_cancel:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, "Its code server was started again.")


def _is_listening(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0
