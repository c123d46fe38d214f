"""Which backups a directory holds."""

from __future__ import annotations

from vector_backup_pipeline.engine.errors import IntegrityError
from vector_backup_pipeline.engine.file_names import (
    PENDING_SUFFIX,
    stamp_of_data_file,
    stamp_of_manifest,
    stamp_of_marker,
)
from vector_backup_pipeline.engine.manifest import read_manifest
from vector_backup_pipeline.engine.storage.contract import BackupDirectory
from vector_backup_pipeline.engine.timestamps import TimestampFormat

# Only the older system ended its header line so; it wrote no manifest.
_OLDER_HEADER_END = b"\r\n"


def has_backup(directory: BackupDirectory, timestamps: TimestampFormat) -> bool:
    """Whether a complete backup set is there: a manifest that says so, or an older system's file.

    A live run's files, a dead run's orphans and a set whose manifest is damaged are none.
    """
    names = directory.names()
    manifests = {stamp: n for n in names if (stamp := stamp_of_manifest(n, timestamps))}
    for name in manifests.values():
        if _says_complete(directory, name):
            return True
    return any(
        stamp not in manifests and _is_older_systems(directory, name)
        for name in names
        if (stamp := stamp_of_data_file(name, timestamps))
    )


def stamps_in_use(
    directory: BackupDirectory, timestamps: TimestampFormat, *, but: str | None = None
) -> set[str]:
    """Every stamp that some file there has already, finished or not; the file `but` aside."""
    stamps = set()
    for name in directory.names():
        if name == but:
            continue
        final = name.removesuffix(PENDING_SUFFIX)
        for stamp_of in (stamp_of_manifest, stamp_of_marker, stamp_of_data_file):
            if stamp := stamp_of(final, timestamps):
                stamps.add(stamp)
    return stamps


def _says_complete(directory: BackupDirectory, manifest: str) -> bool:
    try:
        return read_manifest(b"".join(directory.read(manifest)), manifest).complete
    except IntegrityError:
        return False


def _is_older_systems(directory: BackupDirectory, name: str) -> bool:
    head = b""
    for chunk in directory.read(name):
        head += chunk
        if b"\n" in head:
            break
    return head[: head.find(b"\n") + 1].endswith(_OLDER_HEADER_END)
