"""Options that several commands share."""

import click

from vector_backup_pipeline.engine.parameters import DEFAULT_PROGRESS_EVERY

json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print the result, or the error, as JSON and nothing else, such as for | jq.",
)
progress_option = click.option(
    "--progress-every",
    type=int,
    default=DEFAULT_PROGRESS_EVERY,
    show_default=True,
    metavar="N",
    help="Rows between progress events in the run's log, such as 10000.",
)
