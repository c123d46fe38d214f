"""What the sections of the log have in common."""

from __future__ import annotations

from collections.abc import Sequence

from vector_backup_pipeline.engine.errors import BackupError, RunCancelled
from vector_backup_pipeline.engine.results import TruncatedTable, TruncateFailure

RULE = "=" * 78


def verdict(error: BackupError | None) -> str:
    if isinstance(error, RunCancelled):
        return "CANCELLED"
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
