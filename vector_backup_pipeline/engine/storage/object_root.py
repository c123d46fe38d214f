"""Transitional names; import from the modules themselves."""

from __future__ import annotations

from vector_backup_pipeline.engine.storage.directory import BackupDirectory as ObjectDirectory
from vector_backup_pipeline.engine.storage.root import BackupRoot as ObjectRoot

__all__ = ["ObjectDirectory", "ObjectRoot"]
