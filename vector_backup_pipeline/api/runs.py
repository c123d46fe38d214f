"""Start, follow and cancel runs."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any, TypeVar

import anyio
from fastapi import Request

from vector_backup_pipeline.api.dagster_client import DagsterClient
from vector_backup_pipeline.api.errors import (
    CallerGone,
    DagsterUnavailable,
    RunUnresolved,
    StateConflict,
    TaskDirectoryNotFound,
)
from vector_backup_pipeline.api.operations import Operation
from vector_backup_pipeline.api.run_progress import QUEUED, RunProgress
from vector_backup_pipeline.api.run_reader import RunReader
from vector_backup_pipeline.api.run_watch import RunWatch
from vector_backup_pipeline.engine.errors import (
    ResourceNotFound,
    StorageError,
)
from vector_backup_pipeline.engine.postgres.connection_strings import check_remote_caller
from vector_backup_pipeline.engine.secrets import SecretText
from vector_backup_pipeline.engine.storage.contract import BackupRoot
from vector_backup_pipeline.parameters.backup import BackupParameters
from vector_backup_pipeline.parameters.restore import RestoreParameters
from vector_backup_pipeline.sealing import seal

_P = TypeVar("_P", BackupParameters, RestoreParameters)

# The launch request should leave within 0.3 s of the call. With slower storage, the run itself
# reports a missing directory.
_LOOK_AT_ROOT_SECONDS = 0.2
_MOST_LOOKS = 4
# How often to check for a disconnected caller, and for a run that stays in the queue.
_STILL_THERE_SECONDS = 2.0
_LONG_IN_QUEUE_SECONDS = 30.0
# The limit for a cancellation in the queue, while the caller waits for the error.
_CANCEL_SECONDS = 5.0
# The daemon takes less from reading the queue to launching a run.
_DEQUEUE_SECONDS = 1.5


class Runs:
    """Starts, follows and cancels the runs of the operations."""

    def __init__(self, client: DagsterClient, root: BackupRoot) -> None:
        self._client = client
        self._root = root
        self._reader = RunReader(client)
        self.watch = RunWatch(client)
        self._looks = anyio.CapacityLimiter(_MOST_LOOKS)

    async def start(self, operation: Operation[_P], parameters: _P) -> str:
        """Check the parameters and launch the run; returns its id.

        Raises:
            BackupError: the job would refuse the call for the same reason.
            DagsterUnavailable: Dagster does not answer.
        """
        operation.check(parameters)
        connection = parameters.db_connection
        if connection is not None:
            check_remote_caller(SecretText(connection.get_secret_value()))
        task_id = parameters.task_id
        backup_path = None
        if isinstance(parameters, RestoreParameters):
            backup_path = parameters.backup_path
        if task_id is not None or backup_path is not None:
            await self._check_directories(task_id, backup_path)
        config = parameters.as_run_config(
            lambda secret: seal(SecretText(secret.get_secret_value()))
        )
        return await self._client.launch(operation.job, config)

    async def end_of(self, operation: Operation[Any], run_id: str, request: Request) -> RunProgress:
        """Wait until the run ends or the caller disconnects.

        Raises:
            CallerGone: the caller has closed the connection; the run continues.
            DagsterUnavailable: Dagster is away, or has no daemon that would start the run. The run
                was canceled before it started.
            RunUnresolved: the same, but the run goes on or may still start.
        """
        end = asyncio.ensure_future(self.watch.ended(run_id))
        looked_at = time.monotonic()
        try:
            while not end.done():
                await asyncio.wait([end], timeout=_STILL_THERE_SECONDS)
                if not end.done() and await request.is_disconnected():
                    raise CallerGone
                if time.monotonic() - looked_at > _LONG_IN_QUEUE_SECONDS:
                    looked_at = time.monotonic()
                    await self._check_queue(operation, run_id)
            await end
        except DagsterUnavailable as error:
            raise await self._given_up(run_id, error.message) from error
        finally:
            end.cancel()
        try:
            return await self._reader.read(run_id, operation.job, now=True)
        except DagsterUnavailable as error:
            message = f"{error.message} The run {run_id} has ended; ask for its status."
            raise RunUnresolved(message, run_id) from error

    async def read(self, operation: Operation[Any], run_id: str) -> RunProgress:
        """Raises `ResourceNotFound` if there is no such run of that operation."""
        return await self._reader.read(run_id, operation.job)

    async def cancel(self, operation: Operation[Any], run_id: str) -> None:
        """Ask a run to end.

        Raises:
            ResourceNotFound: there is no such run.
            StateConflict: it has ended already.
        """
        progress = await self._reader.read(run_id, operation.job, now=True)
        if progress.has_ended:
            raise StateConflict(f"The run {run_id} has ended already: {progress.status}.")
        await self._client.terminate(run_id)

    async def _check_directories(self, task_id: str | None, backup_path: str | None) -> None:
        """Report a missing directory before the launch, if the root can be read from here."""

        def look() -> None:
            if self._root.find_path(self._root.location) is None:
                return
            if backup_path is not None:
                self._root.find_path(backup_path)
            if task_id is not None:
                try:
                    self._root.find(task_id)
                except ResourceNotFound as error:
                    raise TaskDirectoryNotFound(error.message) from error

        # If the root is slow or unreadable here, the run does this check.
        with contextlib.suppress(TimeoutError, StorageError):
            with anyio.fail_after(_LOOK_AT_ROOT_SECONDS):
                await anyio.to_thread.run_sync(look, abandon_on_cancel=True, limiter=self._looks)

    async def _given_up(self, run_id: str, reason: str) -> DagsterUnavailable:
        """Cancel the run if it is still queued; returns the error for its caller."""
        status = await self._cancel_in_queue(run_id)
        if status == "CANCELED":
            return DagsterUnavailable(
                f"{reason} The run {run_id} was canceled before it started.", run_id
            )
        if status is None or status in QUEUED:
            message = (
                f"The run {run_id} could not be canceled and may still start. Ask for its status, "
                "or cancel it, before you send this call again."
            )
        else:
            message = f"The run {run_id} goes on ({status}); ask for its status."
        return RunUnresolved(f"{reason} {message}", run_id)

    async def _cancel_in_queue(self, run_id: str) -> str | None:
        """Cancel the run if it has not started; returns its status after that, None if unknown."""
        status = None
        with contextlib.suppress(DagsterUnavailable, TimeoutError):
            with anyio.fail_after(_CANCEL_SECONDS):
                status = await self._status(run_id)
                if status in QUEUED:
                    with contextlib.suppress(DagsterUnavailable, StateConflict):
                        await self._client.terminate(run_id)
                    # The daemon may be launching the run at this moment, and then sets it from
                    # CANCELED to STARTING.
                    await anyio.sleep(_DEQUEUE_SECONDS)
                    status = await self._status(run_id)
        return status

    async def _status(self, run_id: str) -> str:
        # A run that was deleted will not start either.
        return (await self._client.statuses([run_id])).get(run_id, "CANCELED")

    async def _check_queue(self, operation: Operation[Any], run_id: str) -> None:
        try:
            progress = await self._reader.read(run_id, operation.job)
            is_stuck = progress.status in QUEUED and (await self._client.health()).has_stuck_queue
        except DagsterUnavailable:
            return  # RunWatch decides how long an outage may last.
        if is_stuck:
            raise DagsterUnavailable(
                "The run waits in Dagster's queue, and the daemon that would start it is not "
                "running. Start the daemon: dagster-daemon run.",
                run_id,
            )
