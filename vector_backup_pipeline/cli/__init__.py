"""The command line, `vector-backup`.

A command's module is imported when the command is called. Dagster takes a second and a half to
import, so functions import it.
"""

import importlib
import logging
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from typing import NoReturn

import click

from vector_backup_pipeline import __version__
from vector_backup_pipeline.cli.showing import DONE, message_of, show_outcome
from vector_backup_pipeline.engine import errors
from vector_backup_pipeline.output import log_output, tolerant_output

# Each command with its module here.
COMMANDS = {
    **dict.fromkeys(("backup", "restore", "verify"), "operations"),
    **dict.fromkeys(("list", "show", "stats"), "listing"),
    **{name: name for name in ("runs", "diff", "check")},
    **dict.fromkeys(("prune", "adopt", "consolidate"), "operations"),
    **dict.fromkeys(("init", "serve"), "services"),
    "demo": "demo",
}
_FLAGS = ("-v", "--verbose", "-q", "--quiet")
_SAME_SIGNAL_SECONDS = 1.0


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit: 0 done, 1 failed, 2 invalid parameters, 130 canceled."""
    _interrupt_on_signals()
    with tolerant_output():
        code = _run(sys.argv[1:] if arguments is None else list(arguments))
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    """Run a command and show its error. Returns the exit code."""
    error: errors.BackupError
    name = None
    try:
        code = commands.main(args=arguments, prog_name="vector-backup", standalone_mode=False)
        return code or DONE
    except click.UsageError as usage_error:
        error = errors.InvalidParams(usage_error.format_message())
    except click.Abort:
        error = errors.RunCancelled()
    except errors.BackupError as backup_error:
        error = backup_error
        name = next((word for word in arguments if word in COMMANDS), None)
    except Exception as unexpected:  # noqa: BLE001 - with --json, print a document in any case
        traceback.print_exc()
        error = errors.as_backup_error(unexpected)
    message = message_of(error, load_command(name)) if name else None
    return show_outcome(None, error, as_json="--json" in arguments, message=message)


def _interrupt_on_signals() -> None:
    """Raise KeyboardInterrupt on SIGINT, SIGTERM and SIGHUP, unless they are ignored because of a
    shell's `&` or nohup. Several signals within a second raise it once, so that they do not
    interrupt the cleanup."""
    last_raised = -_SAME_SIGNAL_SECONDS

    def interrupt(*_: object) -> None:
        nonlocal last_raised
        now = time.monotonic()
        if now - last_raised >= _SAME_SIGNAL_SECONDS:
            last_raised = now
            raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt)


def load_command(name: str) -> click.Command:
    """The command of that name in `COMMANDS`."""
    module = importlib.import_module(f"{__name__}.{COMMANDS[name]}")
    command: click.Command = getattr(module, f"{name}_command")
    return command


class _Commands(click.Group):
    """The commands, imported one by one."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """The group's flags may also follow the command."""
        flags = [argument for argument in args if argument in _FLAGS]
        return super().parse_args(ctx, flags + [word for word in args if word not in _FLAGS])

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        return load_command(cmd_name) if cmd_name in COMMANDS else None


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    invoke_without_command=True,
)
@click.version_option(__version__, prog_name="vector-backup")
@click.option(
    "-v",
    "--verbose",
    is_flag=True,
    help="Log each phase of a run to standard error, such as in vector-backup -v backup. "
    "Default: off.",
)
@click.option(
    "-q",
    "--quiet",
    is_flag=True,
    help="Show no progress, and no summary of a run that succeeds. Default: off.",
)
@click.pass_context
def commands(context: click.Context, verbose: bool, quiet: bool) -> None:  # noqa: ARG001 - showing.is_quiet
    """Back up and restore PostgreSQL tables with pgvector.

    Settings come from VECTOR_BACKUP_* variables. With DAGSTER_HOME, runs appear in the history of
    that Dagster instance.
    """
    context.with_resource(log_output(sys.stderr, logging.INFO if verbose else logging.ERROR))
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
