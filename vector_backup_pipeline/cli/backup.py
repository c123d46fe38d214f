"""`vector-backup backup`."""

from typing import Any

import click

from vector_backup_pipeline.cli.options import (
    hand_over,
    json_option,
    parameter_options,
    read_parameters,
)
from vector_backup_pipeline.cli.showing import show_outcome
from vector_backup_pipeline.parameters.backup import BackupParameters


@click.command("backup")
@parameter_options(BackupParameters)
@json_option
def command(as_json: bool, **options: Any) -> int:
    """Back up the tables, from one snapshot.

    \b
    Examples:
      vector-backup backup
      vector-backup backup --task-id corpus_7 --workers 4 --json
      vector-backup backup --tables docs,app.images --truncate
      vector-backup backup --format binary --compression zstd
    """
    return run_backup(read_parameters(BackupParameters, options), as_json=as_json)


def run_backup(parameters: BackupParameters, *, as_json: bool) -> int:
    """Run the job in this process and show its outcome; returns the exit code."""
    from vector_backup_pipeline.jobs.backup import check_backup
    from vector_backup_pipeline.launch import launch_backup
    from vector_backup_pipeline.terminal import backup_summary

    check_backup(parameters)
    outcome = launch_backup(parameters.as_run_config(hand_over))
    return show_outcome(outcome, backup_summary, as_json=as_json)
