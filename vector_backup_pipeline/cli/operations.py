"""`vector-backup backup`, `restore`, `verify` and `prune`: the operations that run as jobs."""

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
from vector_backup_pipeline.parameters.model import Parameters
from vector_backup_pipeline.parameters.prune import PruneParameters
from vector_backup_pipeline.parameters.restore import RestoreParameters
from vector_backup_pipeline.parameters.verify import VerifyParameters


def run_operation(parameters: Parameters, *, as_json: bool) -> int:
    """Run the job of these parameters in this process and show its outcome; returns the exit
    code."""
    from vector_backup_pipeline.jobs.index import CHECKS
    from vector_backup_pipeline.launch import launch
    from vector_backup_pipeline.operations import OPERATIONS
    from vector_backup_pipeline.settings import load_settings
    from vector_backup_pipeline.terminal import SUMMARIES

    operation = next(o for o in OPERATIONS if o.parameters is type(parameters))
    settings = load_settings()
    CHECKS[operation](parameters, settings)
    outcome = launch(operation, parameters.as_run_config(hand_over), settings)
    return show_outcome(outcome, SUMMARIES[operation], as_json=as_json)


@click.command("backup")
@parameter_options(BackupParameters)
@json_option
def backup(as_json: bool, **options: Any) -> int:
    """Back up the tables, from one snapshot.

    \b
    Examples:
      vector-backup backup
      vector-backup backup --task-id corpus_7 --workers 4 --json
      vector-backup backup --tables docs,app.images --truncate
      vector-backup backup --format binary --compression zstd
    """
    return run_operation(read_parameters(BackupParameters, options), as_json=as_json)


@click.command("restore")
@parameter_options(RestoreParameters)
@json_option
def restore(as_json: bool, **options: Any) -> int:
    """Restore a backup set, proven, all or nothing.

    \b
    Examples:
      vector-backup restore --timestamp latest
      vector-backup restore --timestamp 20250721_234914 --truncate-before-restore
      vector-backup restore --timestamp latest --collections handbook --on-conflict replace
    """
    return run_operation(read_parameters(RestoreParameters, options), as_json=as_json)


@click.command("verify")
@parameter_options(VerifyParameters)
@json_option
def verify(as_json: bool, **options: Any) -> int:
    """Verify stored sets: their files, and in a restore test that they restore.

    \b
    Examples:
      vector-backup verify
      vector-backup verify --timestamp latest --drill
      vector-backup verify --task-id corpus_7 --json
    """
    return run_operation(read_parameters(VerifyParameters, options), as_json=as_json)


@click.command("prune")
@parameter_options(PruneParameters)
@json_option
def prune(as_json: bool, **options: Any) -> int:
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
    return run_operation(read_parameters(PruneParameters, options), as_json=as_json)
