"""A backup for each task directory that appears, and alerts."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import dagster as dg
from pydantic import BaseModel

from vector_backup_pipeline.alerts import CAUSES, Cause, run_failed, send, watch
from vector_backup_pipeline.engine.catalog.contents import has_backup
from vector_backup_pipeline.engine.errors import BackupError, InvalidParams, MissingExtra
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.jobs import JOBS
from vector_backup_pipeline.jobs.backup import vector_backup_job
from vector_backup_pipeline.operations import BACKUP, Operation
from vector_backup_pipeline.outcome import outcome_of_run
from vector_backup_pipeline.settings import Settings, load_settings, read_settings

SENSOR_NAME = "task_directory_sensor"
TASK_TAG = "vector_backup/task_id"
RETRIES = 3
_SECONDS_BETWEEN_TICKS = 60
_SECONDS_BETWEEN_WATCHES = 300
_MAX_WATCHES = 50
_FAILED = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
_ENDED = (*_FAILED, dg.DagsterRunStatus.SUCCESS)


class SensorCursor(BaseModel):
    """What the sensor remembers: the directories it is done with, and those it waits for.

    `waiting` holds, by directory, the number of retries of its run. Removed directories are kept:
    a root that is unmounted for a while must not make all of them new.
    """

    done: set[str] = set()
    waiting: dict[str, int] = {}


def run_key(task_id: str, attempt: int) -> str:
    """A key of its own for each retry: Dagster runs a key once per sensor."""
    return f"{task_id}:{attempt}" if attempt else task_id


def make_task_directory_sensor(settings: Settings) -> dg.SensorDefinition:
    """Watches the root for task directories without a backup."""
    return dg.SensorDefinition(
        name=SENSOR_NAME,
        evaluation_fn=_evaluate,
        job=vector_backup_job,
        minimum_interval_seconds=_SECONDS_BETWEEN_TICKS,
        default_status=default_status(is_on=settings.sensor_enabled),
        description="Back up each new task directory under the root. The first tick only records "
        "the existing ones, unless VECTOR_BACKUP_SENSOR_BACKFILL is true.",
    )


def default_status(*, is_on: bool) -> dg.DefaultSensorStatus:
    return dg.DefaultSensorStatus.RUNNING if is_on else dg.DefaultSensorStatus.STOPPED


def _evaluate(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    settings = load_settings()
    root = settings.open_root()
    task_ids = root.task_ids()
    if context.cursor is None and not settings.sensor_backfill:
        cursor = SensorCursor(done=set(task_ids))
        reason = f"First tick: recorded {len(cursor.done)} existing task directories."
    else:
        cursor = SensorCursor.model_validate_json(context.cursor or "{}")
        reason = f"No new task directory under {root.location}."
    requests = list(_requests(context, settings, root, task_ids, cursor))
    skip_reason = None if requests else reason
    return dg.SensorResult(requests, skip_reason, cursor=cursor.model_dump_json())


def _requests(
    context: dg.SensorEvaluationContext,
    settings: Settings,
    root: BackupRoot,
    task_ids: list[str],
    cursor: SensorCursor,
) -> Iterator[dg.RunRequest]:
    """The runs to start now; updates `cursor`."""
    for task_id in task_ids:
        if task_id in cursor.done:
            continue
        before = cursor.waiting.get(task_id)
        run = None
        if before is not None:
            run = newest_run_of(context, SENSOR_NAME, run_key(task_id, before))
        if run is not None and not has_ended(run):
            continue
        attempt = (before or 0) + (run is not None and run.status in _FAILED)
        try:
            directory = root.find(task_id)
            backed_up = directory is not None and has_backup(directory)
        except BackupError as error:
            context.log.warning(f"{task_id} will be checked again at the next tick: {error}")
            continue
        if attempt > RETRIES and not backed_up:
            context.log.error(
                f"{run_key(task_id, RETRIES)} failed too; no more retries for {task_id}."
            )
        succeeded = run is not None and run.status is dg.DagsterRunStatus.SUCCESS
        if attempt > RETRIES or backed_up or succeeded:
            cursor.done.add(task_id)
            cursor.waiting.pop(task_id, None)
            continue
        cursor.waiting[task_id] = attempt
        run_config = {"task_id": task_id}
        yield dg.RunRequest(
            run_key=run_key(task_id, attempt),
            run_config=run_config,
            tags={TASK_TAG: task_id, **BACKUP.tags(run_config, settings)},
        )


def newest_run_of(
    context: dg.SensorEvaluationContext, sensor_name: str, key: str
) -> dg.DagsterRun | None:
    """The sensor's run of that key, or Dagster's newest retry of it; None if it was never
    created."""
    run = _newest_run(context, {"dagster/run_key": key, "dagster/sensor_name": sensor_name})
    return run and (_newest_run(context, {"dagster/root_run_id": run.run_id}) or run)


def has_ended(run: dg.DagsterRun) -> bool:
    """Whether the run has ended, and Dagster itself will not retry it."""
    will_retry = run.status in _FAILED and run.tags.get("dagster/will_retry") == "true"
    return run.status in _ENDED and not will_retry


def _newest_run(context: dg.SensorEvaluationContext, tags: dict[str, str]) -> dg.DagsterRun | None:
    runs = context.instance.get_runs(filters=dg.RunsFilter(tags=tags), limit=1)
    return runs[0] if runs else None


def make_alert_sensors(settings: Settings) -> list[dg.SensorDefinition]:
    """The sensors that send alerts, which run if there is a receiver."""
    has_receiver = any(target.alert_urls is not None for target in settings.with_targets())
    status = default_status(is_on=has_receiver)

    @dg.run_failure_sensor(
        default_status=status,
        description="Alert on each failed run whose cause was not reported before.",
    )
    def failed_run_alerts(context: dg.RunFailureSensorContext) -> None:
        run = context.dagster_run
        if run.tags.get("dagster/will_retry") == "true":
            return
        operation = _operation_of(run)
        if operation is None:
            return
        outcome = outcome_of_run(context.instance, run.run_id)
        config: Any = run.run_config
        try:
            settings = load_settings(target=config.get("target"))
        except InvalidParams:  # The run's error says so too.
            settings = _without_targets()
        # A run of assets has its location as its partition.
        task_id = config.get("task_id", run.tags.get("dagster/partition"))
        task_id = None if task_id == settings.directory else task_id
        run_failed(settings, operation, outcome, task_id, run.run_id)

    @dg.sensor(
        minimum_interval_seconds=_SECONDS_BETWEEN_WATCHES,
        default_status=status,
        description="Alert on stale backups, damaged sets and failed restore tests, and when they "
        "are over.",
    )
    def backup_alerts(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        # The state of alerts of an unreadable root cannot be read either.
        unreadable = CAUSES.validate_json(context.cursor or "{}")
        fleet: list[Settings] = []
        # A name that no target has.
        _watch(
            "the settings",
            _without_targets(),
            lambda: fleet.extend(load_settings().with_targets()),
            unreadable,
        )
        # Each may wait for its storage, and Dagster ends the evaluation after a minute.
        with ThreadPoolExecutor(_MAX_WATCHES) as pool:
            list(
                pool.map(
                    lambda target: _watch(
                        target.target or "", target, partial(watch, target), unreadable
                    ),
                    [target for target in fleet if target.alert_urls is not None],
                )
            )
        cursor = CAUSES.dump_json(unreadable).decode()
        return dg.SensorResult(skip_reason="Alerts start no runs.", cursor=cursor)

    return [failed_run_alerts, backup_alerts]


def _operation_of(run: dg.DagsterRun) -> Operation | None:
    """The operation of a run of ours, also of one of assets; None for any other."""
    if any(key.path[0] == "vector_backup" for key in run.asset_selection or ()):
        return BACKUP
    return next((operation for operation, job in JOBS.items() if job.name == run.job_name), None)


def _without_targets() -> Settings:
    """The settings as far as they are valid, to alert about those that are not."""
    return read_settings(targets="")[0]


def _watch(
    name: str, settings: Settings, action: Callable[[], object], unreadable: dict[str, Cause]
) -> None:
    """Read something that is watched; updates what is `unreadable`, by name."""
    try:
        action()
    except MissingExtra:
        raise
    except BackupError as error:
        cause = Cause(
            title="Backups cannot be read",
            message=error.message,
            where=settings.open_root().location,
            advice="Check that the storage can be reached: vector-backup check",
        )
        if name not in unreadable and send(settings, [cause]):
            unreadable[name] = cause
    else:
        if name in unreadable and send(settings, [unreadable[name]], are_over=True):
            del unreadable[name]
