"""Transitional names; import from the modules themselves."""

from __future__ import annotations

from vector_backup_pipeline.engine.storage.directory import BackupDirectory, PendingFile
from vector_backup_pipeline.engine.storage.root import AbandonedUpload, BackupRoot
from vector_backup_pipeline.engine.storage.run_markers import DEAD_AFTER
from vector_backup_pipeline.engine.storage.run_markers import RunMarker as Claim

__all__ = [
    "DEAD_AFTER",
    "AbandonedUpload",
    "BackupDirectory",
    "BackupRoot",
    "Claim",
    "PendingFile",
]
