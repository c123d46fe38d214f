"""`vector-backup verify`."""

from typing import Any

import click

from vector_backup_pipeline.cli.options import (
    hand_over,
    json_option,
    parameter_options,
    read_parameters,
)
from vector_backup_pipeline.cli.showing import show_outcome
from vector_backup_pipeline.parameters.verify import VerifyParameters


@click.command("verify")
@parameter_options(VerifyParameters)
@json_option
def command(as_json: bool, **options: Any) -> int:
    """Verify stored sets: their files, and in a restore test that they restore.

    \b
    Examples:
      vector-backup verify
      vector-backup verify --timestamp latest --drill
      vector-backup verify --task-id corpus_7 --json
    """
    return run_verification(read_parameters(VerifyParameters, options), as_json=as_json)


def run_verification(parameters: VerifyParameters, *, as_json: bool) -> int:
    """Run the job in this process and show its outcome; returns the exit code."""
    from vector_backup_pipeline.jobs.verify import check_verify
    from vector_backup_pipeline.launch import launch_verification
    from vector_backup_pipeline.terminal import verification_summary

    check_verify(parameters)
    outcome = launch_verification(parameters.as_run_config(hand_over))
    return show_outcome(outcome, verification_summary, as_json=as_json)
