"""One line of a check's report."""

from dataclasses import dataclass
from typing import Literal

from vector_backup_pipeline.engine.errors import BackupError, LockTimeout, RunCancelled

Status = Literal["ok", "warning", "failed", "skipped"]
Area = Literal["settings", "database", "tables", "storage", "space", "clock", "dagster", "alerts"]


@dataclass(frozen=True)
class Finding:
    """The outcome of one check, called `name`. `advice` says how to fix a problem."""

    area: Area
    name: str
    status: Status
    message: str
    advice: str | None = None


def ok(area: Area, name: str, message: str) -> Finding:
    return Finding(area, name, "ok", message)


def warning(area: Area, name: str, message: str, advice: str | None = None) -> Finding:
    return Finding(area, name, "warning", message, advice)


def failed(area: Area, name: str, message: str, advice: str | None = None) -> Finding:
    return Finding(area, name, "failed", message, advice)


def skipped(area: Area, name: str, reason: str) -> Finding:
    return Finding(area, name, "skipped", f"not tried: {reason}")


def from_error(
    area: Area, name: str, error: BackupError, status: Literal["warning", "failed"] = "failed"
) -> Finding:
    """The finding for an error. A lock timeout is only a warning, since a later backup may get the
    lock. A RunCancelled is raised."""
    if isinstance(error, RunCancelled):
        raise error
    if isinstance(error, LockTimeout):
        status = "warning"
    return Finding(area, name, status, error.summary, error.advice)
