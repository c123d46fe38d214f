"""A run's marker in a local directory: who is writing here, and whether it still lives.

The marker is a small JSON file that its run keeps locked (`flock`) and stamps every minute. The
kernel frees the lock when the process dies, however it dies, so on the same host the lock alone
tells. From another host, where a lock may not be seen, the heartbeat does.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

from vector_backup_pipeline.engine.storage.contract import DEAD_AFTER
from vector_backup_pipeline.engine.storage.heart import Heart

# Another user's marker, or a medium mounted read-only.
_NOT_WRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS}


class LocalClaim:
    """A locked marker file with a heartbeat, until `release`."""

    def __init__(self, path: Path, descriptor: int, owner: Mapping[str, str | int]) -> None:
        self._path = path
        self._descriptor = descriptor
        self._owner = dict(owner)
        self._is_released = False
        self._heart = Heart(self._try_to_beat)

    @classmethod
    def create(cls, path: Path, owner: Mapping[str, str | int]) -> LocalClaim | None:
        """Create `path` and lock it; None if the name is taken."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            return None
        claim = None
        try:
            if not (_lock(descriptor) and _is_at(descriptor, path)):
                # Another run saw the marker in the instant before it was locked, and took it for
                # a dead run's.
                os.close(descriptor)
                return None
            claim = cls(path, descriptor, owner)
            claim._beat()
            claim._heart.start()
            return claim
        except BaseException:
            if claim is not None:
                # First: no beat may go to another file that gets the descriptor's number.
                claim._heart.stop()
            path.unlink(missing_ok=True)
            os.close(descriptor)
            raise

    def release(self) -> None:
        if self._is_released:
            return
        self._heart.stop()
        self._is_released = True
        try:
            with contextlib.suppress(OSError):
                # Taken for dead from another host, it may have been replaced by another run's.
                if _is_at(self._descriptor, self._path):
                    self._path.unlink(missing_ok=True)
        finally:
            with contextlib.suppress(OSError):  # The lock is free all the same.
                os.close(self._descriptor)

    def _try_to_beat(self) -> bool:
        # A full disk must not end the run's claim; a missed beat is made up by the next.
        with contextlib.suppress(OSError):
            self._beat()
        return True

    def _beat(self) -> None:
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        text = json.dumps(self._owner | {"heartbeat": now}) + "\n"
        # Always as long as the first one, so that one write in place replaces it whole.
        os.pwrite(self._descriptor, text.encode(), 0)


def is_alive(path: Path) -> bool:
    """Whether the run of the marker `path` lives; a marker that is gone is a run that ended."""
    try:
        descriptor = _open(path)
    except FileNotFoundError:
        return False
    try:
        return not _is_dead(descriptor)
    finally:
        os.close(descriptor)


def remove_if_dead(path: Path) -> None:
    """Remove the marker of a dead run; never one that a new run has put in its place."""
    try:
        descriptor = _open(path)
    except FileNotFoundError:
        return
    try:
        if _is_dead(descriptor) and _is_at(descriptor, path):
            path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR)  # Over NFS an exclusive lock needs it.
    except OSError as error:
        if error.errno not in _NOT_WRITABLE:
            raise
        return os.open(path, os.O_RDONLY)


def _is_dead(descriptor: int) -> bool:
    """On this host by the lock (had by the caller until it closes), elsewhere by the heartbeat."""
    host, heartbeat = _read(descriptor)
    if host == socket.gethostname():
        return _lock(descriptor)
    is_old = datetime.now(timezone.utc) - heartbeat >= DEAD_AFTER
    return is_old and (host is not None or _lock(descriptor))


def _read(descriptor: int) -> tuple[str | None, datetime]:
    """The host and last heartbeat; a marker that is not whole counts by its file's age."""
    modified = datetime.fromtimestamp(os.fstat(descriptor).st_mtime, timezone.utc)
    try:
        marker = json.loads(os.pread(descriptor, 1 << 16, 0))
        return str(marker["host"]), datetime.fromisoformat(marker["heartbeat"]).astimezone()
    except (ValueError, KeyError, TypeError):
        return None, modified


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        found, own = path.stat(), os.fstat(descriptor)
    except FileNotFoundError:
        return False
    return (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino)
