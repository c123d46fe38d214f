"""The root of all backups, from what names it."""

from __future__ import annotations

from vector_backup_pipeline.engine.storage.contract import BackupRoot
from vector_backup_pipeline.engine.storage.local import LocalRoot


def open_root(root: str, directory: str) -> BackupRoot:
    """The store that `root` names: a path. `directory` is the name of each place's own."""
    return LocalRoot(root, directory)
