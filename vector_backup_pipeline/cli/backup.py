"""`vector-backup backup`."""

from typing import Any

import click

from vector_backup_pipeline.cli.connection import handed_over
from vector_backup_pipeline.cli.options import (
    db_connection_option,
    export_method_option,
    json_option,
    progress_option,
    tables_option,
    workers_option,
)
from vector_backup_pipeline.cli.showing import show_outcome
from vector_backup_pipeline.engine.parameters import (
    COMPRESSIONS,
    DEFAULT_BATCH_SIZE,
    FORMATS,
)
from vector_backup_pipeline.settings import split_tables


@click.command("backup")
@click.option(
    "--task-id",
    metavar="ID",
    help="Back up under {root}/ID/, such as corpus_7. Default: the root itself.",
)
@db_connection_option
@click.option(
    "--truncate",
    is_flag=True,
    help="Empty the truncate tables after a complete, verified backup. Default: off.",
)
@click.option(
    "--no-backup",
    is_flag=True,
    help="Do nothing: a dry call that checks the parameters. --truncate backs up all the same. "
    "Default: off.",
)
@tables_option
@click.option(
    "--format",
    "file_format",
    type=click.Choice(FORMATS),
    default="csv",
    show_default=True,
    help="csv, which loads anywhere; or --format binary, COPY's own: a third of the size, several "
    "times as fast, for the same versions of server and pgvector.",
)
@click.option(
    "--compression",
    type=click.Choice(COMPRESSIONS),
    default="none",
    show_default=True,
    help="How the files are compressed, such as --compression zstd, the faster one.",
)
@click.option(
    "--compression-level",
    type=int,
    metavar="N",
    help="Level of the compression, such as 3: gzip 1 to 9, zstd 1 to 22. Default: 1, fast.",
)
@workers_option
@export_method_option
@click.option(
    "--batch-size",
    type=int,
    default=DEFAULT_BATCH_SIZE,
    show_default=True,
    metavar="N",
    help="Rows a fetch at most with --export-method cursor, such as 2000.",
)
@progress_option
@json_option
def command(
    task_id: str | None,
    db_connection: str | None,
    truncate: bool,
    no_backup: bool,
    tables: str | None,
    file_format: str,
    compression: str,
    compression_level: int | None,
    workers: int,
    export_method: str,
    batch_size: int,
    progress_every: int,
    as_json: bool,
) -> int:
    """Back up the tables, from one snapshot.

    \b
    Examples:
      vector-backup backup
      vector-backup backup --task-id corpus_7 --workers 4 --json
      vector-backup backup --tables docs,app.images --truncate
      vector-backup backup --format binary --compression zstd
    """
    given: dict[str, Any] = {
        "task_id": task_id,
        "truncate_vector_tables": truncate,
        "backup_vector_tables": not no_backup,
        "tables": None if tables is None else list(split_tables(tables)),
        "format": file_format,
        "compression": compression,
        "compression_level": compression_level,
        "workers": workers,
        "export_method": export_method,
        "batch_size": batch_size,
        "progress_every": progress_every,
    }
    parameters = {key: value for key, value in given.items() if value is not None}
    return run_backup(parameters, db_connection, as_json=as_json)


def run_backup(parameters: dict[str, Any], db_connection: str | None, *, as_json: bool) -> int:
    """Run the job in this process and show its outcome; returns the exit code."""
    from vector_backup_pipeline.call_checks import check_backup
    from vector_backup_pipeline.launch import launch_backup
    from vector_backup_pipeline.terminal import backup_summary

    check_backup(parameters, db_connection)
    if db_connection is not None:
        parameters = {**parameters, "db_connection": handed_over(db_connection)}
    return show_outcome(launch_backup(parameters), backup_summary, as_json=as_json)
