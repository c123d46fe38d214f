"""`vector-backup runs`."""

from __future__ import annotations

import os
import time
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Any

import click

from vector_backup_pipeline.cli import showing
from vector_backup_pipeline.engine.errors import InvalidParams
from vector_backup_pipeline.settings import load_settings

if TYPE_CHECKING:
    import dagster as dg


@click.command("runs")
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=20,
    show_default=True,
    help="Number of runs, such as 50.",
)
@showing.json_option
def runs_command(limit: int, as_json: bool) -> int:
    """Show the latest runs in the Dagster instance of DAGSTER_HOME.

    Lists backups, restores, verifications and prunes, newest first, with the first sentence of
    their errors. LOCATION is the target, and the task or path, if any. Backups that "Materialize"
    started are listed by Dagster's UI only.

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
    import dagster as dg

    from vector_backup_pipeline.launch import dagster_instance
    from vector_backup_pipeline.operations import OPERATIONS

    timestamps = load_settings().timestamps
    filters = [dg.RunsFilter(job_name=operation.job_name) for operation in OPERATIONS]
    with dagster_instance() as instance:
        records = [r for job in filters for r in instance.get_run_records(job, limit)]
        records.sort(key=lambda record: record.create_timestamp, reverse=True)
        runs = [_read(instance, record, timestamps.timezone) for record in records[:limit]]
    if as_json:
        showing.show_json({"runs": runs})
        return showing.DONE
    rows = []
    for run in runs:
        started = showing.age(datetime.fromisoformat(run["started_at"]), timestamps.now())
        texts = [str(run[key] or "") for key in ("duration", "location", "error_type")]
        rows.append((run["run_id"][:8], run["job"], run["status"], started, *texts))
    headings = ("RUN", "JOB", "STATUS", "STARTED", "SECONDS", "LOCATION", "ERROR")
    showing.show_table(headings, rows, right=("SECONDS",))
    showing.show_lines(*(f"  ✗ {r['run_id'][:8]}: {r['error']}" for r in runs if r["error"]))
    return showing.DONE


def _read(instance: dg.DagsterInstance, record: dg.RunRecord, timezone: tzinfo) -> dict[str, Any]:
    """A run as JSON. `duration` is in seconds, so far if the run has not ended, null if it has not
    started."""
    from vector_backup_pipeline.operations import TARGET_TAG
    from vector_backup_pipeline.outcome import outcome_of_run

    run, began, error_type, error = record.dagster_run, record.start_time, None, None
    if run.is_failure_or_canceled:
        outcome = outcome_of_run(instance, run.run_id)
        error_type, error = outcome.error_type, str(outcome.message).partition(". ")[0]
    location = (run.tags.get(TARGET_TAG), *map(run.run_config.get, ("task_id", "backup_path")))
    started_at = began or record.create_timestamp.timestamp()
    return {
        "run_id": run.run_id,
        "job": run.job_name.removeprefix("vector_").removesuffix("_job"),
        "status": run.status.value,
        "started_at": datetime.fromtimestamp(int(started_at), timezone).isoformat(),
        "duration": None if began is None else round((record.end_time or time.time()) - began, 1),
        "location": " ".join(str(part) for part in location if part) or None,
        "error_type": error_type,
        "error": error,
    }
