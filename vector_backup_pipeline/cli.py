"""The terminal door: `vector-backup`."""

import json
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from vector_backup_pipeline import __version__
from vector_backup_pipeline.engine.errors import (
    BackupError,
    InvalidParams,
    MissingRequiredParams,
    RunCancelled,
    as_backup_error,
)
from vector_backup_pipeline.engine.parameters import (
    COMPRESSIONS,
    DEFAULT_BATCH_SIZE,
    DEFAULT_PROGRESS_EVERY,
    DEFAULT_WORKERS,
    EXPORT_METHODS,
    FORMATS,
)
from vector_backup_pipeline.settings import split_tables

if TYPE_CHECKING:
    from vector_backup_pipeline.outcome import RunOutcome

# Dagster takes a second to import, which --help need not wait for: what needs it is imported by
# those who use it.

_BAD_PARAMETERS = {InvalidParams.error_type, MissingRequiredParams.error_type}
_DONE, _FAILED, _BAD_CALL = 0, 1, 2

# Where a connection string given on the command line is put for the run to find.
_CONNECTION_VARIABLE = "VECTOR_BACKUP_RUN_CONNECTION"


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit: 0 done, 1 failed, 2 bad parameters."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    as_json = "--json" in given
    # What is being done ends in order, by Ctrl-C and by the system's request alike.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = commands.main(args=given, prog_name="vector-backup", standalone_mode=False)
    except click.UsageError as error:
        code = _show_error(InvalidParams(error.format_message()), as_json=as_json)
    except click.Abort:
        code = _show_error(RunCancelled(), as_json=as_json)
    except BackupError as error:
        code = _show_error(error, as_json=as_json)
    except Exception as error:  # noqa: BLE001 - a caller of --json gets its document in any case.
        traceback.print_exc()
        code = _show_error(as_backup_error(error), as_json=as_json)
    sys.exit(code or _DONE)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    invoke_without_command=True,
)
@click.version_option(__version__, prog_name="vector-backup")
@click.pass_context
def commands(context: click.Context) -> None:
    """Back up PostgreSQL's pgvector tables.

    Settings come from VECTOR_BACKUP_* variables; runs are kept in the Dagster instance of
    DAGSTER_HOME, if that is set, and show in its UI.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@commands.command()
@click.option(
    "--task-id",
    metavar="ID",
    help="Back up under {root}/ID/, such as corpus_7. Default: the root itself.",
)
@click.option(
    "--db-connection",
    metavar="STRING",
    help="postgresql://user@host:5432/dbname or 'host=db dbname=rag'. Other processes can see a "
    "command line: better set that variable. Default: VECTOR_BACKUP_DB_URL.",
)
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
@click.option(
    "--tables",
    metavar="A,B",
    help="name or schema.name, comma-separated, such as docs,app.images. Default: "
    "VECTOR_BACKUP_TABLES, else LangChain's two tables.",
)
@click.option(
    "--format",
    "file_format",
    type=click.Choice(FORMATS),
    default="csv",
    show_default=True,
    help="Format of the files: --format csv.",
)
@click.option(
    "--compression",
    type=click.Choice(COMPRESSIONS),
    default="none",
    show_default=True,
    help="How the files are compressed: --compression none.",
)
@click.option(
    "--compression-level",
    type=int,
    metavar="N",
    help="Level of the compression, such as 3. Default: the codec's fast level.",
)
@click.option(
    "--workers",
    type=int,
    default=DEFAULT_WORKERS,
    show_default=True,
    metavar="N",
    help="Parallel connections inside one table, such as 4.",
)
@click.option(
    "--export-method",
    type=click.Choice(EXPORT_METHODS),
    default="copy",
    show_default=True,
    help="--export-method cursor for servers and proxies that refuse COPY; same bytes.",
)
@click.option(
    "--batch-size",
    type=int,
    default=DEFAULT_BATCH_SIZE,
    show_default=True,
    metavar="N",
    help="Rows a fetch at most with --export-method cursor, such as 2000.",
)
@click.option(
    "--progress-every",
    type=int,
    default=DEFAULT_PROGRESS_EVERY,
    show_default=True,
    metavar="N",
    help="Rows between progress events in the run's log, such as 10000.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print the result, or the error, as JSON and nothing else, such as for | jq.",
)
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
    help="Where the demo keeps its server, backups and Dagster instance, such as /tmp/demo.",
)
@click.option(
    "--ui",
    is_flag=True,
    help="Open Dagster's UI on the demo's database, until Ctrl-C. Default: off.",
)
@click.option(
    "--port", type=int, default=3000, show_default=True, help="Port of the UI, such as 3001."
)
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


def _show_error(error: BackupError, *, as_json: bool) -> int:
    """Show what kept a call from becoming a run. Returns the exit code."""
    from vector_backup_pipeline.outcome import failure

    return _show_failure(failure(error), as_json=as_json)


def _show_failure(outcome: "RunOutcome", *, as_json: bool) -> int:
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
