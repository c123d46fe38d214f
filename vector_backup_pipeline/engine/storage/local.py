"""Transitional names; import from the modules themselves."""

from __future__ import annotations

from vector_backup_pipeline.engine.storage.directory import BackupDirectory as LocalDirectory
from vector_backup_pipeline.engine.storage.root import BackupRoot as LocalRoot
from vector_backup_pipeline.engine.storage.store import CHUNK_BYTES as READ_BYTES

__all__ = ["READ_BYTES", "LocalDirectory", "LocalRoot"]
