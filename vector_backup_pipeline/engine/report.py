"""What the sections of the log have in common."""

from __future__ import annotations

from collections.abc import Sequence

from vector_backup_pipeline.engine.errors import BackupError, RunCancelled
from vector_backup_pipeline.engine.results import TruncatedTable, TruncateFailure

RULE = "=" * 78


def canceled(error: BackupError | None, canceled_by: str | None) -> str | None:
    """The verdict on a run that was canceled, and by whom as far as known; None on others."""
    if not isinstance(error, RunCancelled):
        return None
    return f"CANCELED by {canceled_by}" if canceled_by else "CANCELED"


def verdict(error: BackupError | None, canceled_by: str | None) -> str:
    if told := canceled(error, canceled_by):
        return told
    return "SUCCESS" if error is None else f"FAILED ({error.error_type})"


def truncate_line(name: str, entry: TruncatedTable | TruncateFailure) -> str:
    if isinstance(entry, TruncatedTable):
        return f"  ✓ {name}: {entry.rows_before} rows before, {entry.rows_after} after"
    state = "OUTCOME UNKNOWN" if entry.outcome == "unknown" else "NOT TRUNCATED"
    return f"  ✗ {name}: {state} - {entry.error}"


def notice_lines(notices: Sequence[str]) -> list[str]:
    return [f"  ! {notice}" for notice in notices]


def error_lines(errors: Sequence[str]) -> list[str]:
    if not errors:
        return ["Errors: none"]
    return ["Errors:", *(f"  {line}" for line in errors)]
