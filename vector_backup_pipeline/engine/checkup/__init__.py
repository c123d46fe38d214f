"""A dry run of a backup: its own code does each step, except that it stores no rows.

It changes nothing: the transactions are rolled back, and the files it writes are deleted. They have
the names that a backup would give them: if the check is killed, the next run removes them.
"""

import contextlib
from collections.abc import Generator, Iterator
from datetime import datetime, timedelta, timezone

from vector_backup_pipeline.engine.catalog.claims import claim_timestamp
from vector_backup_pipeline.engine.checkup.database import check_database
from vector_backup_pipeline.engine.checkup.finding import (
    Finding,
    failed,
    from_error,
    ok,
    skipped,
    warning,
)
from vector_backup_pipeline.engine.errors import BackupError, IntegrityError, StorageError
from vector_backup_pipeline.engine.file_names import data_file_name, marker_name
from vector_backup_pipeline.engine.postgres.connection import ConnectionSettings
from vector_backup_pipeline.engine.results import readable_size
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.engine.storage.run_markers import DEAD_AFTER
from vector_backup_pipeline.parameters.backup import BackupRequest

# Clocks that are synchronized by NTP differ by less.
_TOLERATED_OFFSET = timedelta(seconds=5)
_CONTENT = b"id,document\n" + b"1,written by vector-backup check\n" * 100
_WRONG_LISTING = "Use another storage: a backup depends on complete and current listings."


def check_backup(
    request: BackupRequest, connection: ConnectionSettings, root: BackupRoot, lock_timeout: float
) -> Iterator[Finding]:
    """Check the backup that `request` describes. A failed step stops only the steps that depend on
    it. `lock_timeout` is in seconds. Raises `RunCancelled` if it was interrupted."""
    server_offset, expected_size = yield from check_database(request, connection, lock_timeout)
    storage_offset = yield from _check_storage(request.task_id, root)
    yield check_space(root, expected_size)
    yield check_clock("server", "database server", server_offset)
    yield check_clock("storage", "storage", storage_offset)


def _check_storage(
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


def check_space(root: BackupRoot, expected_size: int | None) -> Finding:
    """Compare the free space with the estimated size of the next backup, in bytes."""
    name = "free space"
    try:
        free = root.free_bytes()
    except BackupError as error:
        return from_error("space", name, error)
    if free is None:
        return ok("space", name, "object storage has no size limit")
    message = f"{readable_size(free)} free under {root.location}"
    if expected_size is None:
        return skipped("space", name, f"{message}; the size of the next backup is unknown")
    message += f"; the next backup takes about {readable_size(expected_size)}"
    advice = "Free space there, or set VECTOR_BACKUP_ROOT to a larger location."
    if free < expected_size:
        return failed("space", name, message, advice)
    if free < 2 * expected_size:
        return warning("space", name, f"{message}, and a second one would not fit", advice)
    return ok("space", name, message)


def check_clock(name: str, owner: str, offset: timedelta | None) -> Finding:
    """Compare another clock with this machine's. `offset` is how far it is ahead, None if it could
    not be read."""
    if offset is None:
        return skipped("clock", name, f"the clock of the {owner} could not be read")
    seconds = abs(offset.total_seconds())
    if abs(offset) <= _TOLERATED_OFFSET:
        message = f"the {owner}'s clock agrees with the local clock (difference {seconds:.1f} s)"
        return ok("clock", name, message)
    side = "ahead of" if offset > timedelta() else "behind"
    return (failed if abs(offset) > DEAD_AFTER else warning)(
        "clock",
        name,
        f"the {owner}'s clock is {seconds:.1f} s {side} the local clock",
        "Synchronize the clocks of both machines (timedatectl set-ntp true): timestamps and the "
        "detection of dead runs depend on them.",
    )
