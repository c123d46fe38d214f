"""The terminal door: `vector-backup`."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from vector_backup_pipeline import __version__
from vector_backup_pipeline.engine.errors import (
    BackupError,
    InvalidParams,
    MissingRequiredParams,
)
from vector_backup_pipeline.engine.parameters import (
    COMPRESSIONS,
    DEFAULT_BATCH_SIZE,
    DEFAULT_PROGRESS_EVERY,
    DEFAULT_WORKERS,
    EXPORT_METHODS,
    FORMATS,
)
from vector_backup_pipeline.outcome import RunOutcome, failure
from vector_backup_pipeline.settings import split_tables

_BAD_PARAMETERS = {InvalidParams.error_type, MissingRequiredParams.error_type}
_DONE, _FAILED, _BAD_CALL = 0, 1, 2

# Where a connection string given on the command line is put for the run to find.
_CONNECTION_VARIABLE = "VECTOR_BACKUP_RUN_CONNECTION"


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit: 0 done, 1 failed, 2 bad parameters."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    as_json = "--json" in given
    try:
        code = commands.main(args=given, prog_name="vector-backup", standalone_mode=False)
    except click.UsageError as error:
        code = _show_failure(failure(InvalidParams(error.format_message())), as_json=as_json)
    except click.Abort:
        code = _FAILED
    except BackupError as error:
        code = _show_failure(failure(error), as_json=as_json)
    sys.exit(code or _DONE)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="vector-backup")
def commands() -> None:
    """Back up PostgreSQL's pgvector tables.

    Settings come from VECTOR_BACKUP_* variables; runs are kept in the Dagster instance of
    DAGSTER_HOME, if that is set, and show in its UI.
    """


@commands.command()
@click.option("--task-id", metavar="ID", help="Back up under {root}/ID/. Default: the root itself.")
@click.option(
    "--db-connection",
    metavar="STRING",
    help="postgresql://user@host:port/dbname or libpq's key=value. Other processes can see a "
    "command line: better set VECTOR_BACKUP_DB_URL, the default.",
)
@click.option(
    "--truncate",
    is_flag=True,
    help="Empty the truncate tables after a complete, verified backup. Default: off.",
)
@click.option("--no-backup", is_flag=True, help="Do nothing, unless --truncate. Default: off.")
@click.option(
    "--tables",
    metavar="A,B",
    help="name or schema.name, comma-separated. Default: VECTOR_BACKUP_TABLES, else LangChain's "
    "two tables.",
)
@click.option(
    "--format", "file_format", type=click.Choice(FORMATS), default="csv", show_default=True
)
@click.option("--compression", type=click.Choice(COMPRESSIONS), default="none", show_default=True)
@click.option("--compression-level", type=int, metavar="N", help="Default: the codec's fast level.")
@click.option(
    "--workers",
    type=int,
    default=DEFAULT_WORKERS,
    show_default=True,
    metavar="N",
    help="Parallel connections inside one table.",
)
@click.option(
    "--export-method",
    type=click.Choice(EXPORT_METHODS),
    default="copy",
    show_default=True,
    help="cursor for servers and proxies that refuse COPY.",
)
@click.option(
    "--batch-size",
    type=int,
    default=DEFAULT_BATCH_SIZE,
    show_default=True,
    metavar="N",
    help="Rows a fetch at most, with --export-method cursor.",
)
@click.option(
    "--progress-every",
    type=int,
    default=DEFAULT_PROGRESS_EVERY,
    show_default=True,
    metavar="N",
    help="Rows between progress events in the run's log.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, nothing else.")
def backup(
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


@commands.command()
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".demo"),
    show_default=True,
    help="Where the demo keeps its server, its backups and its Dagster instance.",
)
@click.option("--ui", is_flag=True, help="Open Dagster's UI on the demo's database, until Ctrl-C.")
@click.option("--port", type=int, default=3000, show_default=True, help="Port of the UI.")
def demo(directory: Path, ui: bool, port: int) -> int:
    """Show a real backup: PostgreSQL with LangChain's tables, the job, its files.

    \b
    Examples:
      vector-backup demo
      vector-backup demo --ui --port 3000
    """
    from vector_backup_pipeline import demo as demonstration

    with demonstration.running(directory) as stage:
        if ui:
            return stage.open_ui(port)
        code = run_backup({}, None, as_json=False)
        stage.show_files()
        return code


def run_backup(parameters: dict[str, Any], db_connection: str | None, *, as_json: bool) -> int:
    """Run the job in this process and show its outcome; returns the exit code."""
    # Dagster takes a second to import, which --help need not wait for.
    from vector_backup_pipeline.launch import check_parameters, launch_backup

    check_parameters(parameters, db_connection)
    run_config = dict(parameters)
    if db_connection is not None:
        os.environ[_CONNECTION_VARIABLE] = db_connection
        run_config["db_connection"] = {"env": _CONNECTION_VARIABLE}
    outcome = launch_backup(run_config)
    if outcome.error_type is not None or outcome.result is None:
        return _show_failure(outcome, as_json=as_json)
    _show_result(outcome.result, as_json=as_json)
    return _DONE


def _show_result(result: dict[str, Any], *, as_json: bool) -> None:
    from vector_backup_pipeline.terminal import summary

    click.echo(json.dumps(result, ensure_ascii=False) if as_json else summary(result))


def _show_failure(outcome: RunOutcome, *, as_json: bool) -> int:
    """Show what went wrong: as JSON on stdout, else in words on stderr. Returns the exit code."""
    if as_json:
        told: dict[str, Any] = {
            "success": False,
            "error_type": outcome.error_type,
            "message": outcome.message,
            "can_retry": outcome.can_retry,
        }
        if outcome.result is not None:
            told["data"] = outcome.result
        click.echo(json.dumps(told, ensure_ascii=False))
    else:
        if outcome.result is not None:
            _show_result(outcome.result, as_json=False)
        click.secho(f"{outcome.error_type}: {outcome.message}", err=True, fg="red")
    return _BAD_CALL if outcome.error_type in _BAD_PARAMETERS else _FAILED
