"""`vector-backup prune`."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from vector_backup_pipeline.cli.options import json_option
from vector_backup_pipeline.cli.showing import show_outcome

_F = TypeVar("_F", bound=Callable[..., object])

_FROM_SETTINGS = "Default: VECTOR_BACKUP_KEEP_{}, else 0."


def _keep_option(name: str, text: str) -> Callable[[_F], _F]:
    """An option that keeps so many sets; one that is not given is the settings' rule."""
    default = _FROM_SETTINGS.format(name.upper())
    return click.option(f"--keep-{name}", type=int, metavar="N", help=f"{text} {default}")


@click.command("prune")
@click.option(
    "--task-id", metavar="ID", help="Only the sets of this task, such as corpus_7. Default: all."
)
@click.option(
    "--global-only",
    is_flag=True,
    help="Only the sets of the root itself, not those of tasks. Default: off.",
)
@_keep_option("last", "Keep the newest N good sets of each place, such as 7.")
@_keep_option("daily", "Keep the newest good set of each of the last N days, such as 7.")
@_keep_option("weekly", "The same for weeks, such as 5.")
@_keep_option("monthly", "The same for months, such as 12.")
@_keep_option("yearly", "The same for years, such as 3.")
@click.option(
    "--keep-within",
    metavar="TIME",
    help="Keep all sets of this time before the newest good one, such as 14d, 1y6m or 36h. "
    "Default: VECTOR_BACKUP_KEEP_WITHIN, else none.",
)
@click.option(
    "--include-truncated",
    is_flag=True,
    help="Remove by the rules also sets whose run emptied a table; they may hold the only copy of "
    "its rows. Default: off.",
)
@click.option(
    "--include-orphans",
    is_flag=True,
    help="Remove also data files that a dead run left without a manifest. Default: off.",
)
@click.option(
    "--dry-run/--yes",
    "dry_run",
    default=True,
    show_default=True,
    help="Only say what would be removed, or remove it.",
)
@json_option
def command(as_json: bool, **given: Any) -> int:
    """Remove the backup sets that no rule keeps, in the root and each task by itself.

    A set stays if any rule keeps it. The newest good set and the newest verified one always stay,
    and so does what another set builds on.

    \b
    Examples:
      vector-backup prune --keep-last 7
      vector-backup prune --keep-daily 7 --keep-weekly 5 --keep-monthly 12 --yes
      vector-backup prune --task-id corpus_7 --keep-within 14d --yes --json
    """
    return run_prune({k: v for k, v in given.items() if v is not None}, as_json=as_json)


def run_prune(parameters: dict[str, Any], *, as_json: bool) -> int:
    """Run the job in this process and show its outcome; returns the exit code."""
    from vector_backup_pipeline.call_checks import check_prune
    from vector_backup_pipeline.launch import launch_prune
    from vector_backup_pipeline.terminal import prune_summary

    check_prune(parameters)
    return show_outcome(launch_prune(parameters), prune_summary, as_json=as_json)
