"""`vector-backup check`."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from vector_backup_pipeline.cli.options import parameter_options, read_parameters
from vector_backup_pipeline.cli.showing import DONE, FAILED, json_option, show_json, show_lines
from vector_backup_pipeline.parameters.backup import CheckParameters

if TYPE_CHECKING:
    from vector_backup_pipeline.engine.checkup.finding import Finding, Status

_SIGNS = {"ok": "✓", "warning": "!", "failed": "✗", "skipped": "–"}
_STATUS_WORDS: "dict[Status, str]" = {
    "ok": "ok",
    "warning": "warnings",
    "failed": "failed",
    "skipped": "not tried",
}


@click.command("check")
@parameter_options(CheckParameters)
@click.option(
    "--alerts",
    "send_alerts",
    is_flag=True,
    help="Send a test alert to each address in VECTOR_BACKUP_ALERT_URLS. Default: off.",
)
@json_option
def check_command(as_json: bool, send_alerts: bool, **options: Any) -> int:
    """Check in a dry run whether a backup can be made.

    The dry run changes nothing. It reports what is missing and how to fix it. The exit code is 1 if
    a check failed, and 0 otherwise, even with warnings.

    \b
    Examples:
      vector-backup check
      vector-backup check --task-id corpus_7 --workers 8
      vector-backup check --alerts
      vector-backup check --json | jq '.findings[] | select(.status == "failed")'
    """
    parameters = read_parameters(CheckParameters, options)
    from vector_backup_pipeline.checkup import check_installation
    from vector_backup_pipeline.engine.cancellation import listening

    with listening():
        findings = check_installation(parameters, send_alerts=send_alerts)
        if not as_json:
            findings = _printed(findings)
        all_findings = list(findings)
    success = all(finding.status != "failed" for finding in all_findings)
    if as_json:
        show_json({"success": success, "findings": [asdict(finding) for finding in all_findings]})
    else:
        counts = Counter(finding.status for finding in all_findings)
        totals = ", ".join(
            _total(counts[s], word) for s, word in _STATUS_WORDS.items() if counts[s]
        )
        conclusion = "A backup can be made: vector-backup backup"
        if not success:
            conclusion = "Fix the items marked ✗, then run the check again."
        show_lines("", f"{totals}. {conclusion}")
    return DONE if success else FAILED


def _total(count: int, word: str) -> str:
    return f"{count} {word.removesuffix('s') if count == 1 else word}"


def _printed(findings: "Iterable[Finding]") -> "Iterator[Finding]":
    """Print each finding as soon as it is known, under the heading of its area."""
    area = None
    for finding in findings:
        if finding.area != area:
            show_lines(*([] if area is None else [""]), finding.area)
            area = finding.area
        show_lines(f"  {_SIGNS[finding.status]} {finding.name}: {finding.message}")
        if finding.advice:
            show_lines(f"      {finding.advice}")
        yield finding
