"""How commands show results and errors, and their exit codes."""

import io
import json
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, TextIO

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


# The first sign of a line; states, verdicts and statuses in tables.
_COLORS = {
    **dict.fromkeys(("✓", "complete", "verified", "passed", "SUCCESS"), "green"),
    **dict.fromkeys(("!", "incomplete", "truncated", "CANCELED"), "yellow"),
    **dict.fromkeys(("✗", "damaged", "failed", "missing", "FAILURE"), "red"),
}
_SIGN, _WORD = re.compile(r"^ *([✓!✗])(?= )"), re.compile(r"\b(\w+)\b")
_AGES = {"d": timedelta(days=1), "h": timedelta(hours=1), "min": timedelta(minutes=1)}
# Columns of at most this many characters are not folded.
_UNFOLDED = 16
# Output to files and pipes is not folded at all.
_UNLIMITED = 100_000


def is_quiet() -> bool:
    """Whether the command was called with --quiet."""
    context = click.get_current_context(silent=True)
    return context is not None and context.find_root().params.get("quiet") is True


def show_lines(*lines: str, color: str | None = None, err: bool = False) -> None:
    """Print lines in a color, else with colored signs. On a terminal they are folded, but never in
    a word such as a file's name."""
    for line in lines:
        indent = " " * (len(line) - len(line.lstrip()) + 4)
        folded = textwrap.wrap(
            printable(line),
            _width(sys.stderr if err else sys.stdout),
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
        text = "\n".join(folded)
        click.echo(_styled(text, color) if color else _colored(_SIGN, text), err=err)


def show_table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()
) -> None:
    """Print aligned columns, those named in `right` to the right, folded on a terminal. Without
    headings if they are all empty."""
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    cells = [[printable(cell) for cell in row] for row in rows]
    columns = [
        Column(
            heading,
            justify="right" if heading in right else "left",
            no_wrap=all(len(row[number]) <= _UNFOLDED for row in cells),
            overflow="fold",
        )
        for number, heading in enumerate(headings)
    ]
    table = Table(*columns, box=None, padding=(0, 0, 0, 2), show_header=any(headings))
    for row in cells:
        table.add_row(*map(Text, row))
    output = io.StringIO()
    Console(file=output, width=_width(sys.stdout), color_system=None).print(table)
    for line in output.getvalue().splitlines():
        click.echo(_colored(_WORD, line.rstrip()))


def _width(stream: TextIO) -> int:
    return shutil.get_terminal_size().columns if stream.isatty() else _UNLIMITED


def _colored(pattern: re.Pattern[str], text: str) -> str:
    return pattern.sub(lambda found: _styled(found[0], _COLORS.get(found[1])), text)


def _styled(text: str, color: str | None) -> str:
    return text if os.environ.get("NO_COLOR") or color is None else click.style(text, fg=color)


def age(moment: datetime, now: datetime) -> str:
    """How long ago that was: `3 d ago`."""
    passed = now - moment
    for unit, length in _AGES.items():
        if passed >= length:
            return f"{passed // length} {unit} ago"
    return "just now" if passed > timedelta(minutes=-1) else "in the future"


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
    """The failure for an error. Problems with parameters are reported with the flags and arguments
    of `command`."""
    flags = {
        parameter.name: parameter.human_readable_name.strip("[]")
        if isinstance(parameter, click.Argument)
        else parameter.opts[0]
        for parameter in (command.params if command else ())
    }
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
    summary: Callable[[dict[str, Any]], Iterable[str]] = lambda _: (),
    *,
    as_json: bool,
) -> int:
    """Show the result of a command and its failure: as one JSON document, or the failure on stderr
    and a summary of the result on stdout, unless it is a success and --quiet was given. Returns the
    exit code."""
    if as_json:
        data = {} if result is None else {"data": result}
        show_json({"success": False, **asdict(failure), **data} if failure else result or {})
    else:
        if failure is not None:
            show_lines(f"{failure.error_type}: {failure.message}", color="red", err=True)
        if result is not None and not (is_quiet() and failure is None):
            for line in summary(result):
                if failure is not None and line.endswith(failure.message):
                    line = line.removesuffix(failure.message).rstrip(" -:")
                show_lines(line)
    return _EXIT_CODES.get(failure.error_type, FAILED) if failure else DONE
