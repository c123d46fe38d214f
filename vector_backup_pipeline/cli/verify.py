"""`vector-backup verify`."""

from typing import Any

import click

from vector_backup_pipeline.cli.connection import handed_over
from vector_backup_pipeline.cli.options import json_option
from vector_backup_pipeline.cli.showing import show_outcome
from vector_backup_pipeline.engine.parameters import DEFAULT_WORKERS
from vector_backup_pipeline.engine.restore.request import DEFAULT_PROBES


@click.command("verify")
@click.option(
    "--timestamp",
    metavar="STAMP",
    help="Which set, such as 20250721_234914, or latest for the newest complete one of each "
    "location and database (and any newer one that is damaged). "
    "Default: every set.",
)
@click.option(
    "--source-database",
    metavar="NAME",
    help="Database whose sets to verify, such as rag: its name as vector-backup list shows it, or "
    "{system_identifier}/{name} if servers share the name. Default: all databases.",
)
@click.option(
    "--backup-path",
    metavar="PATH",
    help="Where the sets are: under the root, absolute or relative to the root's parent, such as "
    "training_data/vector_bak. Default: every place under the root.",
)
@click.option(
    "--task-id", metavar="ID", help="The sets of this task, such as corpus_7. Default: all places."
)
@click.option(
    "--drill",
    is_flag=True,
    help="Restore each set into a database of its own too, prove it there, drop it. Default: off.",
)
@click.option(
    "--scratch-connection",
    metavar="STRING",
    help="A server to drill on, such as postgresql://user@host:5432/postgres; the role must be "
    "allowed to create databases. Default: an embedded PostgreSQL of the drill's own.",
)
@click.option(
    "--workers",
    type=int,
    default=DEFAULT_WORKERS,
    show_default=True,
    metavar="N",
    help="Parallel connections of a drill, such as 4.",
)
@click.option(
    "--probes",
    type=int,
    default=DEFAULT_PROBES,
    show_default=True,
    metavar="N",
    help="Searches to measure a drill's recall with, such as 20; 0 for none.",
)
@json_option
def command(scratch_connection: str | None, as_json: bool, **given: Any) -> int:
    """Verify stored sets: their files, and in a drill that they restore.

    \b
    Examples:
      vector-backup verify
      vector-backup verify --timestamp latest --drill
      vector-backup verify --task-id corpus_7 --json
    """
    parameters = {key: value for key, value in given.items() if value is not None}
    return run_verification(parameters, scratch_connection, as_json=as_json)


def run_verification(
    parameters: dict[str, Any], scratch_connection: str | None, *, as_json: bool
) -> int:
    """Run the job in this process and show its outcome; returns the exit code."""
    from vector_backup_pipeline.call_checks import check_verification
    from vector_backup_pipeline.launch import launch_verification
    from vector_backup_pipeline.terminal import verification_summary

    check_verification(parameters, scratch_connection)
    if scratch_connection is not None:
        parameters = {**parameters, "scratch_connection": handed_over(scratch_connection)}
    outcome = launch_verification(parameters)
    return show_outcome(outcome, verification_summary, as_json=as_json)
