"""One stored file that may be handed out: what belongs to a backup set, and nothing else."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from vector_backup_pipeline.engine.errors import InvalidParams, ResourceNotFound, StorageError
from vector_backup_pipeline.engine.file_names import (
    LOG_NAME,
    manifest_name,
    stamp_of_data_file,
    tombstone_name,
    verdict_name,
)
from vector_backup_pipeline.engine.storage.contract import BackupDirectory, BackupRoot
from vector_backup_pipeline.engine.timestamps import TimestampFormat
from vector_backup_pipeline.parameters.types import check_task_id

# No name of ours has one; of lone surrogates a client could not be told.
_NO_PART_OF_A_NAME = re.compile(r"[/\\\x00\ud800-\udfff]")


@dataclass(frozen=True)
class Download:
    """A file, its `size` in bytes and its `version` (`BackupDirectory.version`). `size` is that
    of this version as long as the version has not changed."""

    directory: BackupDirectory
    name: str
    size: int
    version: str


def find_download(
    root: BackupRoot, timestamps: TimestampFormat, timestamp: str, file: str, task_id: str | None
) -> Download:
    """The file of that name that belongs to the set of that timestamp: a data file, the manifest,
    the verdict, or the log of the directory that the set is in.

    A set is told by its manifest's name, which is not read: it may be many MB. Messages name no
    path of this machine; an error's cause does.

    Raises:
        InvalidParams: the timestamp or the task_id is malformed.
        ResourceNotFound: there is no such file, set or task; or the file is not to be handed out:
            it is still being written, is left of a dead run or a removed set, is a symbolic link,
            or lies outside of the root.
        StorageError: the storage can't be asked.
    """
    check_task_id(task_id)
    if not timestamps.is_stamp(timestamp):
        raise InvalidParams(
            f"The timestamp {timestamp!r} is not valid: give that of a backup set, such as "
            f"{timestamps.stamp(timestamps.now())}."
        )
    place = "the root's own directory" if task_id is None else f"the task {task_id}"
    with _without_paths(f"look for {file!r} of the set {timestamp} in {place}"):
        directory, names = _listed(root, task_id, place)
        if tombstone_name(timestamp) in names:
            raise ResourceNotFound(
                f"The set {timestamp} in {place} is being removed. Choose another one from the "
                "list of backups."
            )
        if manifest_name(timestamp) not in names:
            raise ResourceNotFound(
                f"There is no backup set {timestamp} in {place} with a file {file!r}: a run may "
                "still be at work on it, or have died. See the list of backups for what is there."
            )
        if file not in names or not _is_of_set(file, timestamp, timestamps):
            raise _no_file(timestamp, file, place)
        try:
            # The version first: who finds it unchanged later knows that the size belongs to it.
            version = directory.version(file)
            return Download(directory, file, directory.size(file), version)
        except ResourceNotFound as error:
            raise _no_file(timestamp, file, place) from error


def _listed(
    root: BackupRoot, task_id: str | None, place: str
) -> tuple[BackupDirectory, frozenset[str]]:
    path = root.default_path
    if task_id is not None:
        path = posixpath.join(root.location, task_id, posixpath.basename(path))
    try:
        directory = root.find_path(path)
        if directory is not None:
            return directory, frozenset(directory.names())
    except (InvalidParams, ResourceNotFound):
        pass  # A symbolic link leads out of the root; or it was removed just now.
    raise ResourceNotFound(
        f"There are no backups in {place}. Check task_id, and see the list of backups for what is "
        "there."
    )


def _is_of_set(file: str, timestamp: str, timestamps: TimestampFormat) -> bool:
    """Whether a set of that timestamp would have a file of that name."""
    if _NO_PART_OF_A_NAME.search(file):
        return False
    return (
        file in (LOG_NAME, manifest_name(timestamp), verdict_name(timestamp))
        or stamp_of_data_file(file, timestamps) == timestamp
    )


def _no_file(timestamp: str, file: str, place: str) -> ResourceNotFound:
    return ResourceNotFound(
        f"The set {timestamp} in {place} has no file {file!r} to download. See the list of backups "
        "for the names of its files."
    )


@contextmanager
def _without_paths(action: str) -> Iterator[None]:
    try:
        yield
    except StorageError as error:
        raise StorageError(
            f"Could not {action}: the storage refused. Check the storage, for example with "
            "vector-backup check, and try again."
        ) from error
