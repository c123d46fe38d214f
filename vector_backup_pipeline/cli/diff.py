"""`vector-backup diff`."""

import json

import click

from vector_backup_pipeline.cli.options import parameter_options
from vector_backup_pipeline.cli.showing import DONE, json_option, show_json, show_lines
from vector_backup_pipeline.engine.catalog.choice import check_timestamp
from vector_backup_pipeline.engine.catalog.locations import find_directory
from vector_backup_pipeline.engine.incremental.diff import find_pair
from vector_backup_pipeline.parameters.listing import DiffParameters
from vector_backup_pipeline.settings import load_settings


@click.command("diff")
@click.argument("set_a", metavar="SET_A")
@click.argument("set_b", metavar="SET_B")
@parameter_options(DiffParameters)
@click.option(
    "--keys",
    "with_keys",
    is_flag=True,
    help="List the primary keys of the rows instead, one JSON object per line. Default: off.",
)
@json_option
def diff_command(
    parameters: DiffParameters, set_a: str, set_b: str, with_keys: bool, as_json: bool
) -> int:
    """Compare two backup sets by their key files.

    Counts the rows that were added, changed and removed between SET_A and SET_B: timestamps of
    sets with key files, or latest.

    \b
    Examples:
      vector-backup diff 20250720_234914 20250721_234914
      vector-backup diff 20250720_234914 latest --tables docs --keys | jq -c .key
    """
    settings = load_settings(target=parameters.target)
    for argument, timestamp in (("set_a", set_a), ("set_b", set_b)):
        check_timestamp(settings.timestamps, timestamp, key=argument)
    directory = find_directory(settings.open_root(), None, parameters.task_id)
    pair = find_pair(directory, set_a, set_b, parameters.tables)
    if with_keys:
        for table, change, key in pair.changed_keys():
            click.echo(json.dumps({"table": table, "change": change, "key": key}))
    elif as_json:
        show_json(pair.difference().model_dump(by_alias=True))
    else:
        difference = pair.difference()
        show_lines(f"Rows from {difference.from_} to {difference.to}:")
        for table, counts in difference.tables.items():
            numbers = f"{counts.added} added, {counts.changed} changed, {counts.removed} removed"
            show_lines(f"  {table}: {numbers}")
    return DONE
