"""`vector-backup adopt`."""

import uuid
from typing import TYPE_CHECKING, Any

import click

from vector_backup_pipeline.cli.options import json_option, parameter_options, read_parameters
from vector_backup_pipeline.cli.showing import DONE, show_error, show_json
from vector_backup_pipeline.parameters.adopt import AdoptParameters

if TYPE_CHECKING:
    from vector_backup_pipeline.engine.results import AdoptResult


@click.command("adopt")
@parameter_options(AdoptParameters)
@json_option
def command(as_json: bool, **options: Any) -> int:
    """Make backup sets of the older system's files, which have no manifest.

    Reads both files of a pair completely, and reports each row that can't be read by its line. If
    there is none, it writes a manifest. The files are not changed.

    \b
    Examples:
      vector-backup adopt --all --dry-run
      vector-backup adopt --timestamp 20240102_030405
      vector-backup adopt --all --task-id corpus_7 --json
    """
    parameters = read_parameters(AdoptParameters, options)
    from vector_backup_pipeline.engine.adoption import adopt
    from vector_backup_pipeline.engine.storage.opening import open_root
    from vector_backup_pipeline.settings import load_settings

    settings = load_settings()
    root = open_root(settings.root, settings.directory, manifest_key=settings.manifest_key)
    done = adopt(root, settings.timestamps, parameters, run_id=str(uuid.uuid4()))
    result = done.result.as_json()
    code = DONE if done.error is None else show_error(done.error, result, as_json=as_json)
    if not as_json:
        click.echo(_summary(done.result))
    elif done.error is None:
        show_json(result)
    return code


def _summary(result: "AdoptResult") -> str:
    from vector_backup_pipeline.engine.adoption import pair_lines

    lines = [line for pair in result.pairs for line in pair_lines(pair)]
    text = "\n".join([*lines, *result.notices])
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
