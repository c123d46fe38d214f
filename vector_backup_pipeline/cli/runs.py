"""`vector-backup runs`."""

from __future__ import annotations

import os
import time
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING

import click

from vector_backup_pipeline.cli.showing import (
    DONE,
    age,
    json_option,
    show_json,
    show_lines,
    show_table,
)
from vector_backup_pipeline.engine.errors import InvalidParams
from vector_backup_pipeline.engine.record import Record

if TYPE_CHECKING:
    import dagster as dg

# As in Dagster's UI.
_ID_LETTERS = 8


class RecentRun(Record):
    """A run of one of the jobs. `duration` is in seconds, so far if the run has not ended, null if
    it has not started. `error` is the first sentence of its message."""

    run_id: str
    job: str
    status: str
    started_at: datetime
    duration: float | None
    location: str | None
    error_type: str | None
    error: str | None


@click.command("runs")
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=20,
    show_default=True,
    help="Number of runs, such as 50.",
)
@json_option
def runs_command(limit: int, as_json: bool) -> int:
    """Show the latest runs in the Dagster instance of DAGSTER_HOME.

    Lists backups, restores, verifications and prunes, newest first, with the first sentence of
    their errors. LOCATION is the target, and the task or path if one was given.

    \b
    Examples:
      vector-backup runs
      vector-backup runs --limit 100 --json | jq '.runs[] | select(.status == "FAILURE")'
    """
    if not os.environ.get("DAGSTER_HOME"):
        raise InvalidParams(
            "DAGSTER_HOME is not set. Set it to the directory of the Dagster instance, such as one "
            "that vector-backup init has set up."
        )
    from vector_backup_pipeline.settings import load_settings

    timestamps = load_settings().timestamps
    runs = _recent_runs(limit, timestamps.timezone)
    if as_json:
        documents = [r.model_dump() | {"started_at": r.started_at.isoformat()} for r in runs]
        show_json({"runs": documents})
        return DONE
    now = timestamps.now()
    headings = ("RUN", "JOB", "STATUS", "STARTED", "SECONDS", "LOCATION", "ERROR")
    rows = [
        (
            run.run_id[:_ID_LETTERS],
            run.job,
            run.status,
            age(run.started_at, now),
            "" if run.duration is None else str(run.duration),
            run.location or "",
            run.error_type or "",
        )
        for run in runs
    ]
    show_table(headings, rows, right=("SECONDS",))
    show_lines(*(f"  ✗ {run.run_id[:_ID_LETTERS]}: {run.error}" for run in runs if run.error))
    return DONE


def _recent_runs(limit: int, timezone: tzinfo) -> list[RecentRun]:
    import dagster as dg

    from vector_backup_pipeline.launch import dagster_instance
    from vector_backup_pipeline.operations import OPERATIONS

    with dagster_instance() as instance:
        records = [
            record
            for operation in OPERATIONS
            for record in instance.get_run_records(
                dg.RunsFilter(job_name=operation.job_name), limit
            )
        ]
        records.sort(key=lambda record: record.create_timestamp, reverse=True)
        return [_read(instance, record, timezone) for record in records[:limit]]


def _read(instance: dg.DagsterInstance, record: dg.RunRecord, timezone: tzinfo) -> RecentRun:
    from vector_backup_pipeline.outcome import read_outcome

    run, began, error_type, error = record.dagster_run, record.start_time, None, None
    if run.is_failure_or_canceled:
        entries = instance.all_logs(run.run_id)
        outcome = read_outcome(e.dagster_event for e in entries if e.dagster_event is not None)
        error_type, error = outcome.error_type, str(outcome.message).partition(". ")[0]
    config = run.run_config
    location = (
        run.tags.get("vector_backup/target"),
        config.get("task_id"),
        config.get("backup_path"),
    )
    started_at = began or record.create_timestamp.timestamp()
    return RecentRun(
        run_id=run.run_id,
        job=run.job_name.removeprefix("vector_").removesuffix("_job"),
        status=run.status.value,
        started_at=datetime.fromtimestamp(int(started_at), timezone),
        duration=None if began is None else round((record.end_time or time.time()) - began, 1),
        location=" ".join(str(part) for part in location if part) or None,
        error_type=error_type,
        error=error,
    )
