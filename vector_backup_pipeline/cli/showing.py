"""How commands show results and errors, and their exit codes."""

import json
from collections.abc import Callable
from typing import Any

import click

from vector_backup_pipeline.engine.errors import (
    BackupError,
    InvalidParams,
    MissingRequiredParams,
    RunCancelled,
)

# The last is that of a command ended by Ctrl-C (128 + SIGINT).
DONE, FAILED, INVALID, CANCELED = 0, 1, 2, 130

_EXIT_CODES = {
    InvalidParams.error_type: INVALID,
    MissingRequiredParams.error_type: INVALID,
    RunCancelled.error_type: CANCELED,
}

json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print the result, or the error, as JSON and nothing else, such as for | jq.",
)


def printable(text: str) -> str:
    """`text` without control characters, which the name of a table or file may hold."""
    return "".join(c if c.isprintable() else "?" for c in text)


def show_json(document: dict[str, Any]) -> None:
    """One document on one line, in ASCII: with --json, the only output on stdout."""
    click.echo(json.dumps(document))


def show_result(
    result: dict[str, Any], summary: Callable[[dict[str, Any]], str], *, as_json: bool
) -> int:
    """Show what a command did; returns the exit code."""
    if as_json:
        show_json(result)
    else:
        click.echo(summary(result))
    return DONE


def show_error(
    error_type: str,
    message: str,
    data: dict[str, Any] | None = None,
    *,
    can_retry: bool,
    as_json: bool,
) -> int:
    """Show what ended a command: on stdout as JSON, with the result in `data`, else on stderr.
    Returns the exit code."""
    if as_json:
        document = {
            "success": False,
            "error_type": error_type,
            "message": message,
            "can_retry": can_retry,
        }
        show_json(document if data is None else {**document, "data": data})
    else:
        click.secho(f"{error_type}: {message}", err=True, fg="red")
    return _EXIT_CODES.get(error_type, FAILED)


def error_message(error: BackupError, command: click.Command | None) -> str:
    """The message of an error; what is wrong with parameters names the flags of `command`."""
    flags = {option.name: option.opts[0] for option in command.params} if command else {}
    sentences = [
        problem.sentence(lambda key: flags.get(key, "--" + key.replace("_", "-")))
        for problem in error.problems
    ]
    return " ".join(sentences) or error.message
