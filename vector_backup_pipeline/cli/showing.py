"""How results and errors are shown, and which exit code they mean."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from vector_backup_pipeline.cli.options import at_terminal
from vector_backup_pipeline.engine.errors import (
    BackupError,
    InvalidParams,
    MissingRequiredParams,
    RunCancelled,
)

if TYPE_CHECKING:
    from vector_backup_pipeline.outcome import RunOutcome

# The last as for a command that Ctrl-C ended (128 + SIGINT).
DONE, FAILED, BAD_CALL, CANCELED = 0, 1, 2, 130

# Writes a result in words.
Summary = Callable[[dict[str, Any]], str]

_BAD_PARAMETERS = {InvalidParams.error_type, MissingRequiredParams.error_type}


def printable(text: str) -> str:
    """`text` without control characters, which a name of a table or file may hold."""
    return "".join(c if c.isprintable() else "?" for c in text)


def show_json(document: dict[str, Any]) -> None:
    """One document on one line, in ASCII: with --json, all that stdout gets."""
    click.echo(json.dumps(document))


def show_outcome(outcome: "RunOutcome", summary: Summary, *, as_json: bool) -> int:
    """Show how a run ended: its result on stdout; its error first, there as JSON, in words on
    stderr. Returns the exit code."""
    if outcome.error_type is None and outcome.result is not None:
        _show_result(outcome.result, summary, as_json=as_json)
        return DONE
    code = _show_failure(
        str(outcome.error_type),
        str(outcome.message),
        outcome.result,
        can_retry=outcome.can_retry,
        as_json=as_json,
    )
    if not as_json and outcome.result is not None:
        _show_result(outcome.result, summary, as_json=False)
    return code


def show_error(
    error: BackupError,
    data: dict[str, Any] | None = None,
    *,
    as_json: bool,
    command: click.Command | None = None,
) -> int:
    """Show the error that ended a command, with that command's flags, as JSON with its `data`.
    Returns the exit code."""
    message = at_terminal(error.problems, command) if error.problems else error.message
    return _show_failure(
        error.error_type, message, data, can_retry=error.can_retry, as_json=as_json
    )


def _show_result(result: dict[str, Any], summary: Summary, *, as_json: bool) -> None:
    if as_json:
        show_json(result)
    else:
        click.echo(summary(result))


def _show_failure(
    error_type: str, message: str, data: dict[str, Any] | None, *, can_retry: bool, as_json: bool
) -> int:
    if as_json:
        told = {
            "success": False,
            "error_type": error_type,
            "message": message,
            "can_retry": can_retry,
        }
        show_json(told if data is None else {**told, "data": data})
    else:
        click.secho(f"{error_type}: {message}", err=True, fg="red")
    if error_type == RunCancelled.error_type:
        return CANCELED
    return BAD_CALL if error_type in _BAD_PARAMETERS else FAILED
