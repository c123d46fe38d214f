"""Start runs, wait for them and cancel them."""

import contextlib
import time

import anyio
from fastapi import Request
from starlette.requests import ClientDisconnect

from vector_backup_pipeline.api.dagster_client import OUTAGE_SECONDS, DagsterClient
from vector_backup_pipeline.api.errors import DagsterUnavailable, RunUnresolved, StateConflict
from vector_backup_pipeline.api.operations import Operation, RunParameters
from vector_backup_pipeline.api.run_reader import ENDED, QUEUED, Cached, RunProgress, RunReader
from vector_backup_pipeline.engine.errors import StorageError
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.requests import checked_run_config
from vector_backup_pipeline.settings import Settings

# The launch request should leave within 0.3 s of the call. With slower storage, the run itself
# reports a missing directory.
_ROOT_SECONDS = 0.2
_MAX_ROOT_THREADS = 4
# A waiting call is answered within 0.3 s of its run's end, with two queries in between.
_POLL_SECONDS = 0.1
# How long a run may be queued before the daemon is checked, and between two checks.
_QUEUE_SECONDS = 30.0
# The limit for a cancellation in the queue, while the caller waits for the error.
_CANCEL_SECONDS = 5.0
# The daemon takes less from reading the queue to launching a run.
_DEQUEUE_SECONDS = 1.5
NO_DAEMON = (
    "Dagster's daemon is not running, so queued runs do not start. Start it: dagster-daemon run."
)


class Runs:
    """The runs of all operations. Belongs to one event loop."""

    def __init__(self, settings: Settings, root: BackupRoot, client: DagsterClient) -> None:
        self._settings = settings
        self._root = root
        self._client = client
        self._reader = RunReader(client)
        self.health = Cached(client.health)
        # The runs that callers wait for, once for each caller. One query reads all.
        self._awaited: list[str] = []
        self._statuses = Cached(self._read_statuses, _POLL_SECONDS)
        self._is_stopping = False
        self._root_threads = anyio.CapacityLimiter(_MAX_ROOT_THREADS)

    def stop(self) -> None:
        """Answer all waiting callers with an error: the service is stopping."""
        self._is_stopping = True

    async def start(self, operation: Operation, parameters: RunParameters) -> str:
        """Check the parameters and launch the run; returns its id.

        Raises:
            BackupError: the job would refuse the call for the same reason.
            DagsterUnavailable: Dagster does not answer.
        """
        settings = self._settings.for_target(parameters.target)
        config = checked_run_config(parameters, settings)
        await self._check_task(parameters.task_id, settings)
        tags = operation.base.tags(config, settings)
        return await self._client.launch(operation.base.job_name, config, tags)

    async def wait(self, operation: Operation, run_id: str, request: Request) -> RunProgress:
        """Wait until the run ends or the caller disconnects.

        Raises:
            ClientDisconnect: the caller has closed the connection; the run continues.
            DagsterUnavailable: Dagster is away, or has no daemon that would start the run, or this
                service is stopping. The run was canceled before it started.
            RunUnresolved: the same, but the run continues or may still start.
        """
        self._awaited.append(run_id)
        try:
            await self._wait(run_id, request)
        except DagsterUnavailable as error:
            raise await self._give_up(run_id, error.message) from error
        finally:
            self._awaited.remove(run_id)
        try:
            return await self._reader.read(run_id, operation.base.job_name, now=True)
        except DagsterUnavailable as error:
            message = f"{error.message} The run {run_id} has ended; ask for its status."
            raise RunUnresolved(message, run_id) from error

    async def read(self, operation: Operation, run_id: str) -> RunProgress:
        """Raises `ResourceNotFound` if there is no such run of that operation."""
        return await self._reader.read(run_id, operation.base.job_name)

    async def cancel(self, operation: Operation, run_id: str) -> None:
        """Ask a run to end.

        Raises:
            ResourceNotFound: there is no such run.
            StateConflict: it has ended already.
        """
        progress = await self._reader.read(run_id, operation.base.job_name, now=True)
        if progress.has_ended:
            raise StateConflict(f"The run {run_id} has already ended: {progress.reading.status}.")
        await self._client.terminate(run_id)

    async def _check_task(self, task_id: str | None, settings: Settings) -> None:
        """Report a missing task directory before the launch, if the root can be read from here."""
        if task_id is None:
            return

        def check() -> None:
            root = self._root if settings.target is None else settings.open_root()
            if root.find_path(root.location) is not None:
                root.find(task_id)

        # If the root is slow or unreadable here, the run does this check.
        with contextlib.suppress(TimeoutError, StorageError):
            with anyio.fail_after(_ROOT_SECONDS):
                await anyio.to_thread.run_sync(
                    check, abandon_on_cancel=True, limiter=self._root_threads
                )

    async def _wait(self, run_id: str, request: Request) -> None:
        """Return when the run has ended."""
        answered_at = checked_at = time.monotonic()
        while not self._is_stopping:
            await anyio.sleep(_POLL_SECONDS)
            if await request.is_disconnected():
                raise ClientDisconnect
            try:
                # None from a query that began before this call.
                status = (await self._statuses.read()).get(run_id)
                answered_at = time.monotonic()
                if status in ENDED:
                    return
                if status in QUEUED and time.monotonic() - checked_at > _QUEUE_SECONDS:
                    checked_at = time.monotonic()
                    is_stuck = (await self.health.read()).has_stuck_queue
                else:
                    is_stuck = False
            except DagsterUnavailable:
                if time.monotonic() - answered_at > OUTAGE_SECONDS:
                    raise
                continue
            if is_stuck:
                raise DagsterUnavailable(NO_DAEMON)
        raise DagsterUnavailable("This service is being stopped.")

    async def _read_statuses(self) -> dict[str, str]:
        run_ids = sorted(set(self._awaited))
        statuses = await self._client.statuses(runIds=run_ids)
        # A run that was deleted has no status, and will not start either.
        return {run_id: statuses.get(run_id, "CANCELED") for run_id in run_ids}

    async def _give_up(self, run_id: str, reason: str) -> DagsterUnavailable:
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
            message = f"The run {run_id} continues ({status}); ask for its status."
        return RunUnresolved(f"{reason} {message}", run_id)

    async def _cancel_in_queue(self, run_id: str) -> str | None:
        """Cancel the run if it has not started; returns its status after that, None if unknown."""
        status = None
        with contextlib.suppress(DagsterUnavailable, TimeoutError):
            with anyio.fail_after(_CANCEL_SECONDS):
                status = (await self._read_statuses())[run_id]
                if status in QUEUED:
                    with contextlib.suppress(DagsterUnavailable, StateConflict):
                        await self._client.terminate(run_id)
                    # The daemon may be launching the run at this moment, and then sets it from
                    # CANCELED to STARTING.
                    await anyio.sleep(_DEQUEUE_SECONDS)
                    status = (await self._read_statuses())[run_id]
        return status
