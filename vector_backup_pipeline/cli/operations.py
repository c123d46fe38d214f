"""`vector-backup backup`, `restore`, `verify`, `prune`, `adopt` and `consolidate`, made from their
parameters."""

import uuid
from collections.abc import Callable
from typing import Any

import click

from vector_backup_pipeline.cli.options import as_environment_reference, parameter_options
from vector_backup_pipeline.cli.showing import is_quiet, json_option, show_outcome
from vector_backup_pipeline.engine.adoption import AdoptRun, pair_lines
from vector_backup_pipeline.engine.catalog.choice import check_timestamp
from vector_backup_pipeline.engine.errors import BackupError
from vector_backup_pipeline.engine.results import ConsolidateResult
from vector_backup_pipeline.parameters.adopt import AdoptParameters
from vector_backup_pipeline.parameters.backup import BackupParameters
from vector_backup_pipeline.parameters.consolidate import ConsolidateParameters
from vector_backup_pipeline.parameters.model import Parameters
from vector_backup_pipeline.parameters.prune import PruneParameters
from vector_backup_pipeline.parameters.restore import RestoreParameters
from vector_backup_pipeline.parameters.verify import VerifyParameters
from vector_backup_pipeline.settings import load_settings


def run_job(parameters: Parameters, *, as_json: bool) -> int:
    """Run the job of these parameters in this process and show its outcome; returns the exit
    code."""
    from vector_backup_pipeline.launch import launch
    from vector_backup_pipeline.operations import OPERATIONS, check_parameters
    from vector_backup_pipeline.terminal import summary

    operation = next(o for o in OPERATIONS if o.parameters is type(parameters))
    settings = load_settings(target=parameters.target)
    check_parameters(parameters, settings)
    run_config = parameters.as_run_config(as_environment_reference)
    outcome = launch(operation, run_config, settings, is_quiet=is_quiet())
    lines = summary(operation, outcome.result) if outcome.result else ()
    failure = outcome if outcome.error_type else None
    return show_outcome(outcome.result, failure, lines, as_json=as_json)


def run_prune(parameters: PruneParameters, *, as_json: bool) -> int:
    """Prune; unlike the job, the command only reports unless --yes is given."""
    if "dry_run" not in parameters.model_fields_set:
        parameters = parameters.model_copy(update={"dry_run": True})
    return run_job(parameters, as_json=as_json)


def run_adopt(parameters: AdoptParameters, *, as_json: bool) -> int:
    """Adopt in this process, without a job; returns the exit code."""
    settings = load_settings(target=parameters.target)
    run = AdoptRun(parameters, settings.open_root(), str(uuid.uuid4()))
    run.adopt()
    result = run.close()
    lines = [line for pair in result.pairs for line in pair_lines(pair)] + result.notices
    return show_outcome(result.as_json(), run.error, lines, as_json=as_json)


def run_consolidate(parameters: ConsolidateParameters, *, as_json: bool) -> int:
    """Consolidate in this process, without a job; returns the exit code."""
    from vector_backup_pipeline.engine.incremental.consolidate import consolidate, consolidate_lines

    settings = load_settings(target=parameters.target)
    check_timestamp(settings.timestamps, parameters.timestamp)
    root = settings.open_root()
    try:
        result = consolidate(parameters, root, run_id=str(uuid.uuid4()))
    except BackupError as error:
        result = ConsolidateResult.refused(error, root.timestamps.now())
        return show_outcome(result.as_json(), error, as_json=as_json)
    return show_outcome(result.as_json(), None, consolidate_lines(result), as_json=as_json)


def _command(
    name: str, model: type[Parameters], text: str, run: Callable[..., int] = run_job
) -> click.Command:
    """A command with an option for each parameter of `model`."""

    @click.command(name, help=text)
    @parameter_options(model)
    @json_option
    def command(parameters: Any, as_json: bool) -> int:
        return run(parameters, as_json=as_json)

    return command


backup_command = _command(
    "backup",
    BackupParameters,
    """Back up the tables from one snapshot.

    \b
    Examples:
      vector-backup backup
      vector-backup backup --task-id corpus_7 --tables docs,app.images --truncate
      vector-backup backup --mode auto --format binary --compression zstd
    """,
)
restore_command = _command(
    "restore",
    RestoreParameters,
    """Restore a backup set in one transaction and verify it.

    \b
    Examples:
      vector-backup restore latest
      vector-backup restore latest --collections handbook --on-conflict replace
      vector-backup restore latest --where-removed-since 20250721_234914
    """,
)
verify_command = _command(
    "verify",
    VerifyParameters,
    """Verify stored backup sets, optionally with a restore test.

    \b
    Examples:
      vector-backup verify
      vector-backup verify latest --drill
    """,
)
prune_command = _command(
    "prune",
    PruneParameters,
    """Remove the backup sets that no retention rule keeps.

    The rules are applied to the root and to each task separately. The newest good set, the newest
    verified set and sets that another one builds on are always kept. Without --yes, nothing is
    removed.

    \b
    Examples:
      vector-backup prune --keep-daily 7 --keep-weekly 5 --keep-monthly 12 --yes
      vector-backup prune --task-id corpus_7 --keep-within 14d --yes --json
    """,
    run_prune,
)
adopt_command = _command(
    "adopt",
    AdoptParameters,
    """Create backup sets from the older system's files.

    Those files have no manifest. Both files of a pair are read completely, and each row that cannot
    be read is reported by its line. If there is none, a manifest is written. The files are not
    changed.

    \b
    Examples:
      vector-backup adopt --all --dry-run
      vector-backup adopt --timestamp 20240102_030405 --task-id corpus_7
    """,
    run_adopt,
)
consolidate_command = _command(
    "consolidate",
    ConsolidateParameters,
    """Make a full backup set from an incremental one and its chain.

    Only the storage is read and written, not the database. The rows are verified. The sets of the
    chain stay: prune removes them.

    \b
    Examples:
      vector-backup consolidate
      vector-backup consolidate 20250721_234914
    """,
    run_consolidate,
)
