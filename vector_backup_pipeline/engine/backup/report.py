"""A backup's section of the log, as text."""

from vector_backup_pipeline.engine.report import (
    error_lines,
    notice_lines,
    table_line,
    truncate_line,
)
from vector_backup_pipeline.engine.results import BackupResult
from vector_backup_pipeline.parameters.backup import BackupRequest


def backup_lines(
    request: BackupRequest, result: BackupResult, *, run_id: str, source: str | None
) -> list[str]:
    """The section of one run; `source` is the server and database, without any secret."""
    return [
        f"Task: {request.task_id or '(none)'}   Run: {run_id}",
        f"Source: {source or '(not reached)'}",
        f"Duration: {result.duration:.3f} s",
        "Tables:",
        *(table_line(name, entry) for name, entry in result.tables_backed_up.items()),
        *_truncate_lines(request, result),
        *notice_lines(result.notices),
        *error_lines(result.errors),
    ]


def _truncate_lines(request: BackupRequest, result: BackupResult) -> list[str]:
    if not request.truncate_vector_tables:
        return ["Truncate: not asked for"]
    if not result.truncate_results:
        return ["Truncate: nothing was truncated"]
    lines = (truncate_line(name, entry) for name, entry in result.truncate_results.items())
    return ["Truncate:", *lines]
