"""The storage side of the dry run: a run's marker, and a file written, listed, read and deleted.

The marker and the file have the names that a backup would give them. If the check is killed, the
next run cleans up as it does after a killed backup.
"""

import contextlib
from collections.abc import Generator
from datetime import datetime, timedelta, timezone

from vector_backup_pipeline.engine.catalog.run_marker import claim_timestamp
from vector_backup_pipeline.engine.checkup.finding import Finding, from_error, ok
from vector_backup_pipeline.engine.errors import BackupError, IntegrityError, StorageError
from vector_backup_pipeline.engine.file_names import data_file_name, marker_name
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.storage.root import BackupRoot

_CONTENT = b"id,document\n" + b"1,written by vector-backup check\n" * 100
_WRONG_LISTING = "Use another storage: a backup depends on complete and current listings."


def check_storage(
    task_id: str | None, root: BackupRoot
) -> Generator[Finding, None, timedelta | None]:
    """Check the directory of the next backup, which is created if missing and then removed again.
    Returns how far the storage's clock is ahead of this machine's, None if unknown."""
    clock_offset = None
    try:
        with root.open_for_trial(task_id) as directory:
            yield ok("storage", "directory", directory.location)
            clock_offset = yield from _check_directory(directory)
    except BackupError as error:
        yield from_error("storage", "directory", error)
    return clock_offset


def _check_directory(directory: BackupDirectory) -> Generator[Finding, None, timedelta | None]:
    step, clock_offset = "run marker", None
    try:
        # Removes marker and file, also after an interrupt.
        with contextlib.ExitStack() as cleanup:
            stamp, claim = claim_timestamp(directory, run_id="check")
            cleanup.callback(claim.release)
            marker = marker_name(stamp)
            if marker not in directory.names() or not directory.claim_is_alive(marker):
                raise StorageError(
                    f"The run marker just created in {directory.location} is not recognized as "
                    "that of a live run, so another run could remove the files of a live one.",
                    advice="Use a file system with working file locks, or another directory.",
                )
            message = f"created; a backup made now would have the timestamp {stamp}"
            yield ok("storage", step, message)

            step, name = "put", data_file_name("public", "vector_backup_check", stamp, "csv")
            cleanup.callback(_delete_quietly, directory, name)
            with directory.create(name, len(_CONTENT)) as file:
                file.write(_CONTENT)
                file.commit()
            clock_offset = directory.stat(name).modified_at - datetime.now(timezone.utc)
            yield ok("storage", step, "a file was written")

            step = "list"
            if name not in directory.names():
                message = f"{name} was written, but is not listed in {directory.location}."
                raise StorageError(message, advice=_WRONG_LISTING)
            yield ok("storage", step, "the file is listed")

            step = "get"
            if b"".join(directory.read(name)) != _CONTENT:
                message = f"{directory.location}/{name} is damaged: other bytes were written."
                raise IntegrityError(f"{message} Check the disk.")
            yield ok("storage", step, "the file was read back and compared")

            step = "delete"
            directory.delete(name)
            if name in directory.names():
                message = f"{name} was deleted, but is still listed in {directory.location}."
                raise StorageError(message, advice=_WRONG_LISTING)
            yield ok("storage", step, "the file was deleted")
    except BackupError as error:
        yield from_error("storage", step, error)
    return clock_offset


def _delete_quietly(directory: BackupDirectory, name: str) -> None:
    with contextlib.suppress(BackupError):
        directory.delete(name)
