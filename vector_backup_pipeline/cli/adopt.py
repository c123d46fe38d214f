"""`vector-backup adopt`."""

import uuid

import click

from vector_backup_pipeline.cli.options import json_option
from vector_backup_pipeline.cli.showing import DONE, show_error, show_json
from vector_backup_pipeline.engine.adoption import AdoptRequest, adopt, pair_lines
from vector_backup_pipeline.engine.results import AdoptResult
from vector_backup_pipeline.engine.storage.opening import open_root
from vector_backup_pipeline.settings import load_settings


@click.command("adopt")
@click.option(
    "--timestamp",
    metavar="STAMP",
    help="Adopt the pair of this timestamp, such as 20240102_030405.",
)
@click.option("--all", "all_pairs", is_flag=True, help="Adopt every adoptable pair. Default: off.")
@click.option(
    "--task-id", metavar="ID", help="Only the files of this task, such as corpus_7. Default: all."
)
@click.option(
    "--dry-run", is_flag=True, help="Read the files, report, and write nothing. Default: off."
)
@json_option
def command(
    timestamp: str | None, all_pairs: bool, task_id: str | None, dry_run: bool, as_json: bool
) -> int:
    """Make backup sets of the older system's files, which have no manifest.

    Reads both files of a pair completely, and reports each row that can't be read by its line. If
    there is none, it writes a manifest. The files are not changed.

    \b
    Examples:
      vector-backup adopt --all --dry-run
      vector-backup adopt --timestamp 20240102_030405
      vector-backup adopt --all --task-id corpus_7 --json
    """
    settings = load_settings()
    request = AdoptRequest.checked(
        settings.timestamps,
        timestamp=timestamp,
        all_pairs=all_pairs,
        task_id=task_id,
        dry_run=dry_run,
    )
    root = open_root(settings.root, settings.directory, manifest_key=settings.manifest_key)
    done = adopt(root, settings.timestamps, request, run_id=str(uuid.uuid4()))
    result = done.result.as_json()
    code = DONE if done.error is None else show_error(done.error, result, as_json=as_json)
    if not as_json:
        click.echo(_summary(done.result))
    elif done.error is None:
        show_json(result)
    return code


def _summary(result: AdoptResult) -> str:
    lines = [line for pair in result.pairs for line in pair_lines(pair)]
    text = "\n".join([*lines, *result.notices])
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
