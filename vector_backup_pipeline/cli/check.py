"""`vector-backup check`."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from vector_backup_pipeline.cli.options import parameter_options, read_parameters
from vector_backup_pipeline.cli.showing import DONE, FAILED, show_json
from vector_backup_pipeline.parameters.backup import CheckParameters

if TYPE_CHECKING:
    from vector_backup_pipeline.engine.checkup import Finding, Status

_SIGNS = {"ok": "✓", "warning": "!", "failed": "✗", "skipped": "–"}
_COUNTED: "dict[Status, str]" = {
    "ok": "ok",
    "warning": "to look at",
    "failed": "failed",
    "skipped": "not tried",
}


@click.command("check")
@parameter_options(CheckParameters)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print the findings, or the error, as JSON and nothing else, such as for | jq.",
)
def command(as_json: bool, **options: Any) -> int:
    """Prove the configuration before the first night: what a backup needs is tried, and what is
    missing is told with what mends it. Nothing is changed; what the check writes, it removes.

    Ends with 0 if nothing failed, also with warnings; with 1 if something did.

    \b
    Examples:
      vector-backup check
      vector-backup check --task-id corpus_7 --workers 8
      vector-backup check --json | jq '.findings[] | select(.status == "failed")'
    """
    parameters = read_parameters(CheckParameters, options)
    from vector_backup_pipeline.checkup import check_installation
    from vector_backup_pipeline.engine.cancellation import listening

    with listening():
        findings = check_installation(parameters)
        told = list(findings) if as_json else list(_shown(findings))
    success = all(finding.status != "failed" for finding in told)
    if as_json:
        show_json({"success": success, "findings": [finding.as_json() for finding in told]})
    else:
        click.echo(f"\n{_summary(told)}")
    return DONE if success else FAILED


def _shown(findings: "Iterable[Finding]") -> "Iterator[Finding]":
    """Each finding, printed as it comes: some take their time."""
    area = None
    for finding in findings:
        if finding.area != area:
            click.echo(finding.area if area is None else f"\n{finding.area}")
            area = finding.area
        click.echo(f"  {_SIGNS[finding.status]} {_line(finding)}")
        if finding.advice:
            click.echo(f"      {_printable(finding.advice)}")
        yield finding


def _line(finding: "Finding") -> str:
    return _printable(f"{finding.name}: {finding.message}")


def _summary(findings: "list[Finding]") -> str:
    counted = Counter(finding.status for finding in findings)
    parts = [f"{counted[status]} {word}" for status, word in _COUNTED.items() if counted[status]]
    told = ", ".join(parts)
    if counted["failed"]:
        return f"{told}. Fix the items marked ✗, then run the check again."
    return f"{told}. A backup can be made: vector-backup backup"


def _printable(text: str) -> str:
    """A text without what a terminal would obey: names of tables and files are in it."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
