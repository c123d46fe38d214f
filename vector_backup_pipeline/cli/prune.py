"""`vector-backup prune`."""

from typing import Any

import click

from vector_backup_pipeline.cli.options import (
    hand_over,
    json_option,
    parameter_options,
    read_parameters,
)
from vector_backup_pipeline.cli.showing import show_outcome
from vector_backup_pipeline.parameters.prune import PruneParameters


@click.command("prune")
@parameter_options(PruneParameters)
@json_option
def command(as_json: bool, **options: Any) -> int:
    """Remove the backup sets that no rule keeps, in the root and each task by itself.

    A set stays if any rule keeps it. The newest good set and the newest verified one always stay,
    and so does what another set builds on. Nothing is removed without --yes.

    \b
    Examples:
      vector-backup prune --keep-last 7
      vector-backup prune --keep-daily 7 --keep-weekly 5 --keep-monthly 12 --yes
      vector-backup prune --task-id corpus_7 --keep-within 14d --yes --json
    """
    # In a job the default is to remove; at the terminal it takes --yes.
    options["dry_run"] = options["dry_run"] is not False
    parameters = read_parameters(PruneParameters, options)
    from vector_backup_pipeline.jobs.prune import check_prune
    from vector_backup_pipeline.launch import launch_prune
    from vector_backup_pipeline.terminal import prune_summary

    check_prune(parameters)
    outcome = launch_prune(parameters.as_run_config(hand_over))
    return show_outcome(outcome, prune_summary, as_json=as_json)
