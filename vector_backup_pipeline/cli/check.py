"""`vector-backup check`."""

from collections import Counter
from dataclasses import asdict
from typing import Any

import click

from vector_backup_pipeline.cli.options import parameter_options
from vector_backup_pipeline.cli.showing import DONE, FAILED, json_option, show_json, show_lines
from vector_backup_pipeline.engine.cancellation import listening
from vector_backup_pipeline.parameters.backup import CheckParameters

_SIGNS = {"ok": "✓", "warning": "!", "failed": "✗", "skipped": "–"}


@click.command("check")
@parameter_options(CheckParameters)
@click.option(
    "--alerts",
    "send_alerts",
    is_flag=True,
    help="Send a test alert to each address in VECTOR_BACKUP_ALERT_URLS. Default: off.",
)
@json_option
def check_command(parameters: CheckParameters, send_alerts: bool, as_json: bool) -> int:
    """Check in a dry run whether a backup can be made.

    The dry run changes nothing. It reports what is missing and how to fix it. The exit code is 1 if
    a check failed, and 0 otherwise, even with warnings.

    \b
    Examples:
      vector-backup check
      vector-backup check --task-id corpus_7 --workers 8
      vector-backup check --json | jq '.findings[] | select(.status == "failed")'
    """
    from vector_backup_pipeline.checkup import check_installation

    findings: list[Any] = []
    with listening():
        for finding in check_installation(parameters, send_alerts=send_alerts):
            if not as_json:
                if not findings or finding.area != findings[-1].area:
                    show_lines(finding.area)
                show_lines(f"  {_SIGNS[finding.status]} {finding.name}: {finding.message}")
                if finding.advice:
                    show_lines(f"      {finding.advice}")
            findings.append(finding)
    counts = Counter(finding.status for finding in findings)
    success = not counts["failed"]
    if as_json:
        show_json({"success": success, "findings": [asdict(finding) for finding in findings]})
    else:
        conclusion = "A backup can be made: vector-backup backup"
        if not success:
            conclusion = "Fix the items marked ✗, then run the check again."
        totals = ", ".join(
            f"{counts[status]} {status}{'s' if status == 'warning' and counts[status] > 1 else ''}"
            for status in _SIGNS
            if counts[status]
        )
        show_lines("", f"{totals}. {conclusion}")
    return DONE if success else FAILED
