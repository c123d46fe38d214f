"""`vector-backup restore`."""

from typing import Any

import click

from vector_backup_pipeline.cli.options import (
    hand_over,
    json_option,
    parameter_options,
    read_parameters,
)
from vector_backup_pipeline.cli.showing import show_outcome
from vector_backup_pipeline.parameters.restore import RestoreParameters


@click.command("restore")
@parameter_options(RestoreParameters)
@json_option
def command(as_json: bool, **options: Any) -> int:
    """Restore a backup set, proven, all or nothing.

    \b
    Examples:
      vector-backup restore --timestamp latest
      vector-backup restore --timestamp 20250721_234914 --truncate-before-restore
      vector-backup restore --timestamp latest --collections handbook --on-conflict replace
    """
    parameters = read_parameters(RestoreParameters, options)
    from vector_backup_pipeline.jobs.restore import check_restore
    from vector_backup_pipeline.launch import launch_restore
    from vector_backup_pipeline.terminal import restore_summary

    check_restore(parameters)
    outcome = launch_restore(parameters.as_run_config(hand_over))
    return show_outcome(outcome, restore_summary, as_json=as_json)
