"""A dry run of a backup: its own code does each step, except that it stores no rows.

It changes nothing: the transactions are rolled back, and the files it writes are deleted.
"""

from collections.abc import Iterator
from datetime import timedelta

from vector_backup_pipeline.engine.checkup.database import check_database
from vector_backup_pipeline.engine.checkup.finding import (
    Finding,
    failed,
    from_error,
    ok,
    skipped,
    warning,
)
from vector_backup_pipeline.engine.checkup.storage import check_storage
from vector_backup_pipeline.engine.errors import BackupError
from vector_backup_pipeline.engine.postgres.connection import ConnectionSettings
from vector_backup_pipeline.engine.results import readable_size
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.engine.storage.run_markers import DEAD_AFTER
from vector_backup_pipeline.parameters.backup import BackupRequest

# Clocks that are synchronized by NTP differ by less.
_TOLERATED_OFFSET = timedelta(seconds=5)


def check_backup(
    request: BackupRequest, connection: ConnectionSettings, root: BackupRoot, lock_timeout: float
) -> Iterator[Finding]:
    """Check the backup that `request` describes. A failed step stops only the steps that depend on
    it. `lock_timeout` is in seconds. Raises `RunCancelled` if it was interrupted."""
    server_offset, expected_size = yield from check_database(request, connection, lock_timeout)
    storage_offset = yield from check_storage(request.task_id, root)
    yield check_space(root, expected_size)
    yield check_clock("server", "database server", server_offset)
    yield check_clock("storage", "storage", storage_offset)


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
