"""The stored files that may be downloaded: those of backup sets, and no others."""

import re
from dataclasses import dataclass

from vector_backup_pipeline.engine.catalog.choice import check_timestamp
from vector_backup_pipeline.engine.errors import InvalidParams, ResourceNotFound, StorageError
from vector_backup_pipeline.engine.file_names import (
    LOG_NAME,
    manifest_name,
    stamp_of_data_file,
    tombstone_name,
    verdict_name,
)
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.parameters.types import check_task_id

# No file of a set has one in its name; lone surrogates can't be sent to a client.
_NEVER_IN_A_NAME = re.compile(r"[/\\\x00\ud800-\udfff]")


@dataclass(frozen=True)
class Download:
    """A file, its `size` in bytes and its `version` (`BackupDirectory.version`). The size is that
    of this version."""

    directory: BackupDirectory
    name: str
    size: int
    version: str


def find_download(root: BackupRoot, timestamp: str, file: str, task_id: str | None) -> Download:
    """The file of that name of the set with that timestamp: a data file, the manifest, the verdict,
    or the log of the set's directory. Messages name no path of the server.

    Raises:
        InvalidParams: the timestamp or the task_id is malformed.
        ResourceNotFound: there is no such set or file, or it may not be downloaded: it is not
            finished, its set is being removed, it is a symbolic link or outside of the root.
        StorageError: the storage can't be read.
    """
    check_task_id(task_id)
    check_timestamp(root.timestamps, timestamp, may_be_latest=False)
    where = "the root" if task_id is None else f"the task {task_id}"
    try:
        if (download := _find(root, timestamp, file, task_id)) is not None:
            return download
    except StorageError as error:
        raise StorageError(
            f"Could not read {file!r} of the set {timestamp} of {where}. Check the storage, for "
            "example with vector-backup check, and try again."
        ) from error
    except (InvalidParams, ResourceNotFound):
        pass  # No such task, a symbolic link out of the root, or removed in the meantime.
    raise ResourceNotFound(
        f"There is no file {file!r} of a backup set {timestamp} of {where} to download. See the "
        "list of backups for the files of each set."
    )


def _find(root: BackupRoot, timestamp: str, file: str, task_id: str | None) -> Download | None:
    directory = root.find(task_id)
    if directory is None:
        return None
    names = directory.names()
    # The manifest is not read: it may have many MB.
    is_set = manifest_name(timestamp) in names and tombstone_name(timestamp) not in names
    is_of_set = (
        file in (LOG_NAME, manifest_name(timestamp), verdict_name(timestamp))
        or stamp_of_data_file(file, root.timestamps) == timestamp
    )
    if not (is_set and is_of_set and file in names) or _NEVER_IN_A_NAME.search(file):
        return None
    # The version first: if it is the same later, the size belongs to it.
    stored = directory.stat(file)
    return Download(directory, file, stored.size, stored.version)
