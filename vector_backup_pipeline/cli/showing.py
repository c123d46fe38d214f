"""How commands show results and errors, and their exit codes."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import click

from vector_backup_pipeline.engine import errors

# CANCELED is the shell's exit code after Ctrl-C: 128 + SIGINT.
DONE, FAILED, INVALID, CANCELED = 0, 1, 2, 130

_EXIT_CODES = {
    errors.InvalidParams.error_type: INVALID,
    errors.MissingRequiredParams.error_type: INVALID,
    errors.RunCancelled.error_type: CANCELED,
}

json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print only the result or the error, as JSON, such as for jq.",
)
target_option = click.option(
    "--target",
    metavar="NAME",
    help="Target of VECTOR_BACKUP_TARGETS, such as rag_1. Default: the installation's own root.",
)


def printable(text: str) -> str:
    """`text` without the control characters that the name of a table or file may contain."""
    return "".join(c if c.isprintable() else "?" for c in text)


@dataclass(frozen=True)
class Failure:
    """The error that ended a command."""

    error_type: str
    message: str
    can_retry: bool


def failure_of(error: errors.BackupError, command: click.Command | None = None) -> Failure:
    """The failure for an error. Problems with parameters are reported with the flags of
    `command`."""
    flags = {option.name: option.opts[0] for option in command.params} if command else {}
    sentences = [
        problem.sentence(lambda key: flags.get(key, "--" + key.replace("_", "-")))
        for problem in error.problems
    ]
    return Failure(error.error_type, " ".join(sentences) or error.message, error.can_retry)


def show_json(document: dict[str, Any]) -> None:
    """Print a document on one line, in ASCII. With --json, it is the only output on stdout."""
    click.echo(json.dumps(document))


def show_outcome(
    result: dict[str, Any] | None,
    failure: Failure | None,
    summary: Callable[[dict[str, Any]], str] = str,
    *,
    as_json: bool,
) -> int:
    """Show the result of a command and its failure: as one JSON document, or the failure on stderr
    and a summary of the result on stdout. Returns the exit code."""
    if as_json:
        data = {} if result is None else {"data": result}
        show_json({"success": False, **asdict(failure), **data} if failure else result or {})
    else:
        if failure is not None:
            click.secho(f"{failure.error_type}: {failure.message}", err=True, fg="red")
        if result is not None:
            click.echo(summary(result))
    return _EXIT_CODES.get(failure.error_type, FAILED) if failure else DONE
