"""The root of all backups, from what names it."""

from __future__ import annotations

from vector_backup_pipeline.engine.secrets import SecretText
from vector_backup_pipeline.engine.storage.contract import BackupRoot
from vector_backup_pipeline.engine.storage.local import LocalRoot
from vector_backup_pipeline.engine.storage.object_root import ObjectRoot
from vector_backup_pipeline.engine.storage.object_url import is_url


def open_root(
    root: str,
    directory: str,
    *,
    part_size: int | None = None,
    manifest_key: SecretText | None = None,
) -> BackupRoot:
    """The store that `root` names: a path, or a URL of object storage. `directory` is the name of
    each place's own, `part_size` the bytes of an upload's parts instead of a size that fits,
    `manifest_key` the key that signs the manifests.

    Raises:
        InvalidParams: the URL is none of object storage.
        StorageError: what that store needs is not installed.
    """
    if is_url(root):
        return ObjectRoot(root, directory, part_size, manifest_key)
    return LocalRoot(root, directory, manifest_key)
