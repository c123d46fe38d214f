"""What a run tells its caller: the same object in the manifest, the UI and every door."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from vector_backup_pipeline.engine.errors import BackupError

_UNITS = ("B", "KB", "MB", "GB", "TB", "PB")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ExportedTable(_Record):
    """A table whose file is complete and durable. `duration` in seconds."""

    success: Literal[True] = True
    row_count: int
    file_size: str
    backup_file: str
    duration: float


class FailedTable(_Record):
    success: Literal[False] = False
    error_type: str
    error: str
    duration: float


class TruncatedTable(_Record):
    success: Literal[True] = True
    rows_before: int
    rows_after: int
    duration: float


class TruncateFailure(_Record):
    """A table that was not emptied, or (`outcome` unknown) of which nobody can tell."""

    success: Literal[False] = False
    error_type: str
    error: str
    outcome: Literal["not_truncated", "unknown"]
    duration: float


class BackupResult(_Record):
    """The result of a run. Table names are the caller's own spelling."""

    backup_performed: bool
    truncate_performed: bool
    backup_directory: str | None
    tables_backed_up: dict[str, ExportedTable | FailedTable]
    truncate_results: dict[str, TruncatedTable | TruncateFailure]
    errors: list[str]
    duration: float
    timestamp: datetime

    def as_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json") | {"timestamp": self.timestamp.isoformat()}


def failed_table(error: BackupError, duration: float) -> FailedTable:
    return FailedTable(
        error_type=error.error_type, error=error.message, duration=round(duration, 3)
    )


def readable_size(size: int) -> str:
    """`size` bytes in 1024-based units with one decimal: `209.0 B`, `764.0 KB`."""
    number, unit = float(size), _UNITS[0]
    for unit in _UNITS:
        # What would round up to "1024.0" belongs to the next unit.
        if number < 1023.95 or unit == _UNITS[-1]:
            break
        number /= 1024
    return f"{number:.1f} {unit}"


def error_line(error: BackupError, table: str | None = None) -> str:
    where = f"{table}: " if table else ""
    return f"{where}{error.error_type}: {error.message}"
