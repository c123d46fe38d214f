"""How commands show results and errors, and their exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.highlighter import RegexHighlighter
from rich.table import Table

from vector_backup_pipeline.engine import errors

if TYPE_CHECKING:
    from vector_backup_pipeline.outcome import RunOutcome

# CANCELED is the shell's exit code after Ctrl-C: 128 + SIGINT.
DONE, FAILED, INVALID, CANCELED = 0, 1, 2, 130

_EXIT_CODES = {
    errors.InvalidParams.error_type: INVALID,
    errors.MissingRequiredParams.error_type: INVALID,
    errors.RunCancelled.error_type: CANCELED,
}
# Files and pipes get whole lines.
_UNLIMITED = 100_000
# Columns of at most this many characters are not folded.
_UNFOLDED = 16

json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print only the result or the error, as JSON, such as for jq.",
)


class _Highlighter(RegexHighlighter):
    """Colors signs, states, verdicts and statuses."""

    highlights = (
        r"(?P<green>^ *✓|\b(complete|verified|passed|SUCCESS)\b)",
        r"(?P<yellow>^ *!(?= )|\b(incomplete|truncated|CANCELED)\b)",
        r"(?P<red>^ *✗|\b(damaged|failed|missing|FAILURE)\b)",
    )


def _console(*, stderr: bool = False) -> Console:
    console = Console(stderr=stderr, highlighter=_Highlighter(), markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _UNLIMITED
    return console


def is_quiet() -> bool:
    """Whether the command was called with --quiet."""
    return bool(click.get_current_context().find_root().params.get("quiet"))


def show_lines(*lines: str, style: str | None = None, stderr: bool = False) -> None:
    """Print lines. Only the terminal itself folds them, so that a copied line is whole."""
    console = _console(stderr=stderr)
    for line in lines:
        console.print(printable(line), style=style, soft_wrap=True)


def show_table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()
) -> None:
    """Print aligned columns, those named in `right` to the right, folded on a terminal. Without
    headings if they are all empty."""
    table = Table(box=None, padding=(0, 0, 0, 2), show_header=any(headings), highlight=True)
    for number, heading in enumerate(headings):
        table.add_column(
            heading,
            justify="right" if heading in right else "left",
            no_wrap=all(len(row[number]) <= _UNFOLDED for row in rows),
            overflow="fold",
        )
    for row in rows:
        table.add_row(*map(printable, row))
    _console().print(table)


def age(moment: datetime, now: datetime) -> str:
    """How long ago that was: `3 d ago`."""
    passed = now - moment
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if passed >= timedelta(seconds=length):
            return f"{passed // timedelta(seconds=length)} {unit} ago"
    return "just now" if passed > timedelta(minutes=-1) else "in the future"


def printable(text: str) -> str:
    """`text` without the control characters that the name of a table or file may contain."""
    return "".join(c if c.isprintable() else "?" for c in text)


def message_of(error: errors.BackupError, command: click.Command) -> str:
    """The message, with the flags and arguments of `command` for parameters."""
    flags = {
        parameter.name: parameter.human_readable_name.strip("[]")
        if isinstance(parameter, click.Argument)
        else parameter.opts[0]
        for parameter in command.params
    }
    sentences = [
        problem.sentence(lambda key: flags.get(key, "--" + key.replace("_", "-")))
        for problem in error.problems
    ]
    return " ".join(sentences) or error.message


def show_json(document: dict[str, Any]) -> None:
    """Print a document on one line, in ASCII. With --json, it is the only output on stdout."""
    click.echo(json.dumps(document))


def show_outcome(
    result: dict[str, Any] | None,
    failure: errors.BackupError | RunOutcome | None,
    summary: Iterable[str] = (),
    *,
    as_json: bool,
    message: str | None = None,
) -> int:
    """Show the result of a command and its failure: as one JSON document, or the failure on stderr
    and the lines of `summary` on stdout, unless it is a success and --quiet was given. Returns the
    exit code."""
    if as_json:
        document = result or {}
        if failure is not None:
            document = {
                "success": False,
                "error_type": failure.error_type,
                "message": message or failure.message,
                "can_retry": failure.can_retry,
                **({} if result is None else {"data": result}),
            }
        show_json(document)
    else:
        if failure is not None:
            text = f"{failure.error_type}: {message or failure.message}"
            show_lines(text, style="red", stderr=True)
        if failure is not None or not is_quiet():
            show_lines(*summary)
    return DONE if failure is None else _EXIT_CODES.get(str(failure.error_type), FAILED)
