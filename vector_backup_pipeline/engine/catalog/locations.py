"""The directories of backups under a root, and what is in each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vector_backup_pipeline.engine.catalog.contents import (
    Contents,
    FileState,
    read_contents,
    stamp_of_file,
)
from vector_backup_pipeline.engine.catalog.stored_sets import StoredSet, stored_sets
from vector_backup_pipeline.engine.errors import InvalidParams, ResourceNotFound
from vector_backup_pipeline.engine.file_names import LOG_NAME
from vector_backup_pipeline.engine.storage.contract import BackupDirectory, BackupRoot
from vector_backup_pipeline.engine.timestamps import TimestampFormat
from vector_backup_pipeline.parameters.types import check_task_id, is_task_id


@dataclass(frozen=True)
class OtherFile:
    """A data file that belongs to no set."""

    name: str
    state: FileState


@dataclass(frozen=True)
class BackupLocation:
    """A directory with backups; `task_id` is None for the root's own. Newest set first.

    `location` is its path or URL, `relative_path` the same as a restore's `backup_path`.
    """

    task_id: str | None
    location: str
    relative_path: str
    sets: tuple[StoredSet, ...]
    other_files: tuple[OtherFile, ...]
    has_log: bool


def find_locations(
    root: BackupRoot,
    timestamps: TimestampFormat,
    *,
    task_id: str | None = None,
    global_only: bool = False,
) -> list[BackupLocation]:
    """The root's own directory first, then those of tasks by name; only those with backup files.

    Raises:
        InvalidParams: the task_id is malformed, or given with `global_only`.
        ResourceNotFound: the task's directory does not exist.
        StorageError: a directory or a manifest can't be read.
    """
    check_task_id(task_id)
    if task_id is not None and global_only:
        raise InvalidParams("task_id and global_only exclude each other. Give one of them.")
    locations = []
    for task, directory in find_directories(root, task_id, global_only=global_only):
        contents = read_contents(directory, timestamps)
        if not any(n == LOG_NAME or stamp_of_file(n, timestamps) for n in contents.sizes):
            continue
        sets = stored_sets(contents)
        location = BackupLocation(
            task_id=task,
            location=directory.location,
            relative_path=root.relative_path(directory),
            sets=tuple(sets),
            other_files=tuple(other_files(contents, sets)),
            has_log=LOG_NAME in contents.sizes,
        )
        locations.append(location)
    return locations


def other_files(contents: Contents, sets: Iterable[StoredSet]) -> Iterator[OtherFile]:
    """The data files that belong to none of the sets."""
    in_sets = {file.name for each in sets for file in each.files}
    for stamp, names in sorted(contents.data_files.items()):
        state = contents.state_without_set(stamp)
        yield from (OtherFile(name, state) for name in sorted(names) if name not in in_sets)


def check_root(root: BackupRoot) -> None:
    """Raise `ResourceNotFound` if the root does not exist: with a mistyped root, verifications and
    prunes would find no set and always succeed."""
    if root.find_path(root.location) is None:
        raise ResourceNotFound(
            f"There is no directory {root.location}, the root of all backups. Check "
            "VECTOR_BACKUP_ROOT, or that the disk is mounted."
        )


def find_directories(
    root: BackupRoot, task_id: str | None = None, *, global_only: bool = False
) -> Iterator[tuple[str | None, BackupDirectory]]:
    """The backup directories that exist, each with its task: the root's own, then the tasks'; or
    only those asked for.

    Raises:
        ResourceNotFound: the task's directory does not exist.
    """
    tasks = [] if global_only else root.task_ids(is_task_id)
    for task in [None, *tasks] if task_id is None else [task_id]:
        try:
            directory = root.find(task)
        except ResourceNotFound:
            if task_id is not None:
                raise
            continue  # Removed since the tasks were listed.
        if directory is not None:
            yield task, directory
