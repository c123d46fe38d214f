"""Which runs Dagster's run retries repeat, with the settings of the `dagster.yaml` of `init`."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.errors import DagsterLaunchFailedError, DagsterUserCodeUnreachableError
from dagster._core.events import RunFailureReason
from dagster._core.execution.retries import auto_reexecution_should_retry_run
from dagster._core.launcher import DefaultRunLauncher, WorkerStatus
from dagster._grpc.types import CanCancelExecutionResult
from dagster._serdes import serialize_value

from vector_backup_pipeline.instance_files import write_instance_files
from vector_backup_pipeline.run_launcher import CodeServerRunLauncher
from vector_backup_pipeline.settings import DATABASE_URL_VARIABLE
from vector_backup_pipeline_tests.fix_dagster import FinishedRun, JobRunner
from vector_backup_pipeline_tests.fix_postgres import find_free_port


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance as `init` configures it."""
    write_instance_files(tmp_path / "home")
    with dg.DagsterInstance.from_config(str(tmp_path / "home")) as instance:
        yield instance


def will_be_retried(instance: dg.DagsterInstance, done: FinishedRun) -> bool:
    assert done.run.status is dg.DagsterRunStatus.FAILURE
    decided = done.run.tags["dagster/will_retry"] == "true"
    reason = RunFailureReason(done.run.tags["dagster/failure_reason"])
    assert decided == auto_reexecution_should_retry_run(instance, done.run, reason)
    return decided


def test_an_error_that_may_be_over_is_retried(
    job: JobRunner, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATABASE_URL_VARIABLE, f"postgresql://127.0.0.1:{find_free_port()}/x")
    done = job({})
    assert done.outcome.error_type == "SERVICE_UNAVAILABLE"
    assert will_be_retried(instance, done)


def test_an_error_that_would_come_again_is_not_retried(
    job: JobRunner, instance: dg.DagsterInstance
) -> None:
    done = job({"tables": ["langchain_pg_embedding", "nowhere"]})
    assert done.outcome.error_type == "TABLE_NOT_FOUND"
    assert not will_be_retried(instance, done)


def test_a_lost_run_is_retried_unless_it_began_to_truncate(
    job: JobRunner, instance: dg.DagsterInstance
) -> None:
    done = job({"truncate_vector_tables": True})
    assert done.run.status is dg.DagsterRunStatus.SUCCESS
    lost = done.run.with_status(dg.DagsterRunStatus.FAILURE)
    assert not auto_reexecution_should_retry_run(instance, lost, None)
    lost = job({}).run.with_status(dg.DagsterRunStatus.FAILURE)
    assert auto_reexecution_should_retry_run(instance, lost, None)


class CodeServer:
    """A client of a code server that executes these runs."""

    def __init__(self, runs: tuple[str, ...], path: str | None = None) -> None:
        self.runs, self.socket = runs, path

    def can_cancel_execution(self, request: Any) -> str:
        return serialize_value(CanCancelExecutionResult(can_cancel=request.run_id in self.runs))


def test_a_run_is_lost_if_its_code_server_is_another_or_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher, run = CodeServerRunLauncher(), dg.DagsterRun(job_name="a_job")

    def status(client: CodeServer | None) -> WorkerStatus:
        monkeypatch.setattr(launcher, "_get_grpc_client_for_termination", lambda _: client)
        return launcher.check_run_worker_health(run).status

    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        assert status(CodeServer((run.run_id,), path)) is WorkerStatus.RUNNING
    assert status(CodeServer((run.run_id,), path)) is WorkerStatus.NOT_FOUND
    assert status(CodeServer((run.run_id,))) is WorkerStatus.RUNNING
    assert status(CodeServer(("another",))) is WorkerStatus.NOT_FOUND
    # The run of a command has no code server.
    assert status(None) is WorkerStatus.RUNNING


def test_the_queue_waits_for_a_code_server_that_is_about_to_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise DagsterLaunchFailedError("It is about to stop.")  # type: ignore[no-untyped-call]

    monkeypatch.setattr(DefaultRunLauncher, "launch_run", refuse)
    context: Any = None
    with pytest.raises(DagsterUserCodeUnreachableError, match="It is about to stop"):
        CodeServerRunLauncher().launch_run(context)
