"""Transitional names; import from the modules themselves."""

from __future__ import annotations

from vector_backup_pipeline.engine.storage.root import BackupRoot as open_root  # noqa: N813

__all__ = ["open_root"]
