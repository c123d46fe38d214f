"""What a check has found: one line of its report."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, Literal

from vector_backup_pipeline.engine.errors import BackupError

Status = Literal["ok", "warning", "failed", "skipped"]
Area = Literal["settings", "database", "tables", "storage", "space", "clock", "backups", "dagster"]

# Our errors say first what happened, and then what to do.
_NEXT_SENTENCE = re.compile(r"(?<=[.]) (?=[A-Z])")


@dataclass(frozen=True)
class Finding:
    """`name` says what was looked at, `advice` how to mend what is missing."""

    area: Area
    name: str
    status: Status
    message: str
    advice: str | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def ok(area: Area, name: str, message: str) -> Finding:
    return Finding(area, name, "ok", message)


def warning(area: Area, name: str, message: str, advice: str | None = None) -> Finding:
    return Finding(area, name, "warning", message, advice)


def failed(area: Area, name: str, message: str, advice: str | None = None) -> Finding:
    return Finding(area, name, "failed", message, advice)


def skipped(area: Area, name: str, reason: str, advice: str | None = None) -> Finding:
    return Finding(area, name, "skipped", f"not tried: {reason}", advice)


def failed_with(
    area: Area, name: str, error: BackupError, advice: str | None = None, *, fatal: bool = True
) -> Finding:
    """The finding of an error, its own advice apart; `advice` comes before that. One that is not
    `fatal` is a warning."""
    message, *its_own = told_apart(error)
    told = " ".join(part for part in (advice, *its_own) if part)
    return Finding(area, name, "failed" if fatal else "warning", message, told or None)


def told_apart(error: BackupError) -> list[str]:
    """What happened, without its full stop; then what the error advises, if it does."""
    happened, *advice = _NEXT_SENTENCE.split(error.message, maxsplit=1)
    return [happened.rstrip("."), *advice]
