"""The terminal door: `vector-backup`, a module for each of its commands.

Dagster takes a second to import, which --help need not wait for: what needs it is imported by those
who use it.
"""

import logging
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from typing import NoReturn

import click

from vector_backup_pipeline import __version__
from vector_backup_pipeline.cli import (
    adopt,
    check,
    demo,
    init,
    listing,
    operations,
    serve,
)
from vector_backup_pipeline.cli.showing import DONE, show_error
from vector_backup_pipeline.engine.errors import (
    BackupError,
    InvalidParams,
    RunCancelled,
    as_backup_error,
)
from vector_backup_pipeline.log_output import log_output
from vector_backup_pipeline.output import tolerant_output

_AT_ONCE_SECONDS = 1.0


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit: 0 done, 1 failed, 2 bad parameters, 130 canceled."""
    _end_in_order_when_asked()
    with tolerant_output():
        code = _run(sys.argv[1:] if arguments is None else list(arguments))
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    """Run a command and show its error, if it has one. Returns the exit code."""
    as_json = "--json" in arguments
    try:
        code = commands.main(args=arguments, prog_name="vector-backup", standalone_mode=False)
    except click.UsageError as error:
        code = show_error(InvalidParams(error.format_message()), as_json=as_json)
    except click.Abort:
        code = show_error(RunCancelled(), as_json=as_json)
    except BackupError as error:
        # The first word that is a command's name.
        called = next(filter(None, map(commands.commands.get, arguments)), None)
        code = show_error(error, as_json=as_json, command=called)
    except Exception as error:  # noqa: BLE001 - a caller of --json gets its document in any case.
        traceback.print_exc()
        code = show_error(as_backup_error(error), as_json=as_json)
    return code or DONE


def _end_in_order_when_asked() -> None:
    """By Ctrl-C, by the system's request, and by a terminal that is closed, unless a shell's `&` or
    nohup had those ignored. Several at once are one: what ends in order is not torn by the next."""
    last = -_AT_ONCE_SECONDS

    def interrupt(*_: object) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _AT_ONCE_SECONDS:
            last = now
            raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    invoke_without_command=True,
)
@click.version_option(__version__, prog_name="vector-backup")
@click.option(
    "-v",
    "--verbose",
    is_flag=True,
    help="Log each phase of a run on standard error, such as for vector-backup -v backup. "
    "Default: off.",
)
@click.pass_context
def commands(context: click.Context, verbose: bool) -> None:
    """Back up PostgreSQL's pgvector tables, and get them back.

    Settings come from VECTOR_BACKUP_* variables; runs are kept in the Dagster instance of
    DAGSTER_HOME, if that is set, and show in its UI.
    """
    context.with_resource(log_output(sys.stderr, logging.INFO if verbose else logging.ERROR))
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


commands.add_command(operations.backup)
commands.add_command(operations.restore)
commands.add_command(operations.verify)
commands.add_command(listing.command)
commands.add_command(adopt.command)
commands.add_command(check.command)
commands.add_command(operations.prune)
commands.add_command(init.command)
commands.add_command(serve.command)
commands.add_command(demo.command)
