"""The common parts of the sections of a log."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from vector_backup_pipeline.engine.errors import BackupError, RunCancelled
from vector_backup_pipeline.engine.results import (
    ExportedTable,
    FailedTable,
    IncrementalTable,
    TruncatedTable,
    TruncateFailure,
)

RULE = "=" * 78


def section(title: str, began_at: datetime, outcome: str, lines: Iterable[str]) -> str:
    head = f"{began_at:%Y-%m-%d %H:%M:%S %Z}  {title}: {outcome}"
    return "\n".join([RULE, head, *lines]) + "\n\n"


def outcome(error: BackupError | None, canceled_by: str | None) -> str:
    """How a run ended; and who canceled it, as far as known."""
    if isinstance(error, RunCancelled):
        return f"CANCELED by {canceled_by}" if canceled_by else "CANCELED"
    return "SUCCESS" if error is None else f"FAILED ({error.error_type})"


def table_line(name: str, entry: ExportedTable | FailedTable) -> str:
    if isinstance(entry, ExportedTable):
        files = f"{entry.row_count} rows -> {entry.backup_file} ({entry.file_size})"
        return f"  ✓ {name}: {files}{_mode(entry)}"
    return f"  ✗ {name}: FAILED - {entry.error}"


def _mode(entry: ExportedTable) -> str:
    if not isinstance(entry, IncrementalTable):
        return ""
    if entry.builds_on is None:
        return f", full: {entry.reason}"
    numbers = f"{entry.rows_exported} changed, {entry.rows_removed} removed"
    return f", incremental: {numbers} since {entry.builds_on}"


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
