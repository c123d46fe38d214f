"""What is to be checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from vector_backup_pipeline.engine.postgres.connection import ConnectionSettings
from vector_backup_pipeline.engine.storage.contract import BackupRoot
from vector_backup_pipeline.engine.timestamps import TimestampFormat


def _now() -> datetime:
    return datetime.now(timezone.utc)


@dataclass(frozen=True)
class CheckPlan:
    """A backup as it would be made. None stands for what the settings don't tell, and what needs
    it is left out.

    `expected_every` is how often backups of this place are expected, None if nobody expects any.
    `lock_timeout` in seconds.
    """

    connection: ConnectionSettings | None
    root: BackupRoot | None
    timestamps: TimestampFormat | None
    task_id: str | None
    tables: tuple[str, ...] | None
    truncate_tables: tuple[str, ...]
    workers: int
    export_method: str
    lock_timeout: float
    expected_every: timedelta | None
    now: Callable[[], datetime] = _now
