"""A backup for each request file, for systems that can only drop a file."""

import itertools
import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import dagster as dg

from vector_backup_pipeline.engine import errors
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.engine.storage.store import StoredFile
from vector_backup_pipeline.jobs.backup import vector_backup_job
from vector_backup_pipeline.operations import BACKUP
from vector_backup_pipeline.outcome import outcome_of_run
from vector_backup_pipeline.parameters.backup import BackupParameters
from vector_backup_pipeline.requests import MAX_REQUEST_BYTES, checked_run_config, parse_request
from vector_backup_pipeline.sensors import default_status, has_ended, newest_run_of
from vector_backup_pipeline.settings import Settings, load_settings

SENSOR_NAME = "request_file_sensor"
# Dagster ends a tick after a minute.
_MAX_RUNS_PER_TICK = 50
# An invalid file that is younger may be incomplete.
_INCOMPLETE_FOR = timedelta(seconds=10)
# Without dots, so that no request has the name of another one's result.
_NAME = re.compile(r"([A-Za-z0-9_-]{1,200})\.json")


def make_request_file_sensor(settings: Settings) -> dg.SensorDefinition:
    """Watches `requests/` under the root."""
    return dg.SensorDefinition(
        name=SENSOR_NAME,
        evaluation_fn=_evaluate,
        job=vector_backup_job,
        minimum_interval_seconds=15,
        default_status=default_status(is_on=settings.requests_enabled),
        description="Start a backup for each file {root}/requests/*.json, which holds the "
        "parameters. When the run has ended, the file moves to done/ or failed/, with its result.",
    )


def _evaluate(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    settings = load_settings()
    requests = _run_requests(context, settings, settings.open_root())
    return dg.SensorResult(list(itertools.islice(requests, _MAX_RUNS_PER_TICK)))


def _run_requests(
    context: dg.SensorEvaluationContext, settings: Settings, root: BackupRoot
) -> Iterator[dg.RunRequest]:
    """The runs to start now. Moves the files that are invalid, and those whose runs have ended."""
    waiting = root.open_requests()
    for name in waiting.names():
        if not _NAME.fullmatch(name):
            if name.endswith(".json"):
                context.log.warning(f"{name!r} is ignored: use letters, digits, '_' and '-'.")
            continue
        try:
            file = waiting.stat(name)
            key = f"{name} {file.modified_at.isoformat()} {file.version}"
            run = newest_run_of(context, SENSOR_NAME, key)
            if run is None or run.status is dg.DagsterRunStatus.NOT_STARTED:
                yield from _run_request(settings, root, file, key)
            elif has_ended(run):
                _move(root, file, _result(context.instance, run))
        except errors.BackupError as error:
            context.log.warning(f"{name} will be checked again at the next tick: {error}")


def _run_request(
    settings: Settings, root: BackupRoot, file: StoredFile, key: str
) -> Iterator[dg.RunRequest]:
    """The run for a valid request. An invalid one is moved when it is too old to be incomplete."""
    try:
        text = _read(root, file)
        if file.size > len(text):
            raise errors.InvalidParams(f"The request has more than {MAX_REQUEST_BYTES} bytes.")
        parameters = parse_request(text, BackupParameters)
        settings = settings.for_target(parameters.target)
        config = checked_run_config(parameters, settings)
    except (errors.InvalidParams, errors.MissingRequiredParams) as error:
        # The clock of the storage may be ahead of this one.
        if abs(datetime.now(timezone.utc) - file.modified_at) >= _INCOMPLETE_FOR:
            error_type, message = error.error_type, error.message
            _move(root, file, {"run_id": None, "error_type": error_type, "message": message})
        return
    tags = {"vector_backup/request_file": file.name, **BACKUP.tags(config, settings)}
    yield dg.RunRequest(run_key=key, run_config=config, tags=tags)


def _result(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dict[str, Any]:
    """The result of a run that has ended; if it failed, the error with the result."""
    outcome = outcome_of_run(instance, run.run_id)
    if run.status is dg.DagsterRunStatus.SUCCESS:
        return {"run_id": run.run_id, **(outcome.result or {})}
    was_canceled = run.status is dg.DagsterRunStatus.CANCELED
    error_type = errors.RunCancelled.error_type if was_canceled else outcome.error_type
    error = {"error_type": error_type, "message": outcome.message}
    return {"run_id": run.run_id, **error, "result": outcome.result}


def _move(root: BackupRoot, file: StoredFile, result: dict[str, Any]) -> None:
    """Move a request, and write its result beside it. An interrupted move is repeated."""
    waiting = root.open_requests()
    target = root.open_requests("failed" if "error_type" in result else "done")
    target.replace(file.name, _read(root, file))
    text = json.dumps(result, indent=2, ensure_ascii=False) + "\n"
    target.replace(f"{file.name.removesuffix('.json')}.result.json", text.encode())
    # A new request may have replaced it.
    if waiting.stat(file.name).version == file.version:
        waiting.delete(file.name)


def _read(root: BackupRoot, file: StoredFile) -> bytes:
    """The content of this version, at most `MAX_REQUEST_BYTES`."""
    chunks = root.open_requests().read(file.name, 0, MAX_REQUEST_BYTES, version=file.version)
    return b"".join(chunks)
