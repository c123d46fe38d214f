"""Options that several commands share."""

import click

from vector_backup_pipeline.engine.parameters import (
    DEFAULT_PROGRESS_EVERY,
    DEFAULT_WORKERS,
    EXPORT_METHODS,
)

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
# What a backup takes, and a check of it.
db_connection_option = click.option(
    "--db-connection",
    metavar="STRING",
    help="postgresql://user@host:5432/dbname or 'host=db dbname=rag'. Other processes can see a "
    "command line: better set that variable. Default: VECTOR_BACKUP_DB_URL.",
)
tables_option = click.option(
    "--tables",
    metavar="A,B",
    help="name or schema.name, comma-separated, such as docs,app.images. Default: "
    "VECTOR_BACKUP_TABLES, else LangChain's two tables.",
)
workers_option = click.option(
    "--workers",
    type=int,
    default=DEFAULT_WORKERS,
    show_default=True,
    metavar="N",
    help="Parallel connections inside one table, such as 4.",
)
export_method_option = click.option(
    "--export-method",
    type=click.Choice(EXPORT_METHODS),
    default="copy",
    show_default=True,
    help="--export-method cursor for servers and proxies that refuse COPY; same bytes.",
)
