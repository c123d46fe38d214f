"""A backup's section of the log, in words a person reads."""

from __future__ import annotations

from vector_backup_pipeline.engine.errors import BackupError
from vector_backup_pipeline.engine.report import (
    RULE,
    error_lines,
    notice_lines,
    truncate_line,
    verdict,
)
from vector_backup_pipeline.engine.results import BackupResult, ExportedTable, FailedTable
from vector_backup_pipeline.parameters.backup import BackupRequest


def log_section(
    request: BackupRequest,
    result: BackupResult,
    error: BackupError | None,
    *,
    run_id: str,
    canceled_by: str | None,
    stamp: str,
    source: str | None,
) -> str:
    """The section of one run; `source` says which server and database, without any secret."""
    lines = [
        RULE,
        f"{result.timestamp:%Y-%m-%d %H:%M:%S %Z}  backup {stamp}: {verdict(error, canceled_by)}",
        f"Task: {request.task_id or '(none)'}   Run: {run_id}",
        f"Source: {source or '(not reached)'}",
        f"Duration: {result.duration:.3f} s",
        "Tables:",
        *(table_line(name, entry) for name, entry in result.tables_backed_up.items()),
        *_truncate_lines(request, result),
        *notice_lines(result.notices),
        *error_lines(result.errors),
    ]
    return "\n".join(lines) + "\n\n"


def table_line(name: str, entry: ExportedTable | FailedTable) -> str:
    if isinstance(entry, ExportedTable):
        return f"  ✓ {name}: {entry.row_count} rows -> {entry.backup_file} ({entry.file_size})"
    return f"  ✗ {name}: FAILED - {entry.error}"


def _truncate_lines(request: BackupRequest, result: BackupResult) -> list[str]:
    if not request.truncate_vector_tables:
        return ["Truncate: not asked for"]
    if not result.truncate_results:
        return ["Truncate: nothing was truncated"]
    lines = ["Truncate:"]
    for name, entry in result.truncate_results.items():
        lines.append(truncate_line(name, entry))
    return lines
