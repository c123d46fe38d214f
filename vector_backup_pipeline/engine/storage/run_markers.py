"""Run markers: which processes work in a directory, and whether they are alive.

A marker is a small JSON file, created by one process only, and rewritten every minute (its
heartbeat) until the process removes it. On the same host a process is dead when the lock on its
marker is free. Elsewhere, and where a store has no locks, it is dead after 15 minutes without a
heartbeat.
"""

import contextlib
import json
import logging
import os
import socket
import threading
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from vector_backup_pipeline.engine.errors import BackupError, ResourceNotFound, StorageError
from vector_backup_pipeline.engine.storage.retries import read_small_file
from vector_backup_pipeline.engine.storage.store import CreatedFile, Store, StoredFile

_log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 60.0
# Long enough for a temporary outage of the store.
DEAD_AFTER = timedelta(minutes=15)
# If several processes replace the marker of a dead one at the same time, one succeeds.
_TRIES = 20


class RunMarker:
    """A marker of this process, with a heartbeat until `release`."""

    def __init__(
        self, store: Store, path: str, owner: dict[str, str | int], created: CreatedFile
    ) -> None:
        self._store = store
        self._path = path
        self._owner = owner
        self._file = created.file
        self._lock = created.lock
        self._is_released = threading.Event()
        self._thread = threading.Thread(
            target=self._keep_beating, name="vector-backup-heartbeat", daemon=True
        )
        self._thread.start()

    def release(self) -> None:
        """Remove the marker. Raises nothing, since the work is done: a marker that cannot be
        removed counts as dead after a while."""
        if self._is_released.is_set():
            return
        self._is_released.set()
        self._thread.join()
        try:
            with contextlib.suppress(BackupError):
                if self._is_ours():
                    self._store.delete(self._path)
        finally:
            if self._lock is not None:
                self._lock.release()

    def _keep_beating(self) -> None:
        while not self._is_released.wait(HEARTBEAT_SECONDS):
            try:
                if not self._beat():
                    return
            except Exception:  # noqa: BLE001 - a later heartbeat makes up for it.
                _log.exception("The heartbeat of %s failed.", self._path)

    def _beat(self) -> bool:
        """Update the heartbeat. False if another process has removed or replaced the marker."""
        data = marker_text(self._owner)
        if self._lock is not None:
            self._lock.rewrite(data)
            return True
        updated = self._store.put(self._path, data, over=self._file)
        if updated is not None:
            self._file = updated
        return updated is not None or self._is_ours()

    def _is_ours(self) -> bool:
        marker = _read_marker(self._store, self._path)
        if marker is None or marker.token != self._owner["token"]:
            return False
        self._file = marker.file
        return True


def create_marker(store: Store, path: str, run_id: str) -> RunMarker | None:
    """Create the marker `path`, replacing that of a dead process; None if a live one has it."""
    owner: dict[str, str | int] = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "run_id": run_id,
        "token": uuid.uuid4().hex,
    }
    for _ in range(_TRIES):
        created = store.create(path, marker_text(owner))
        if created is not None:
            return RunMarker(store, path, owner, created)
        if not remove_dead_marker(store, path):
            return None
    raise StorageError(
        f"Other processes took the marker {store.location(path)} {_TRIES} times. Try again."
    )


def is_marker_alive(store: Store, path: str) -> bool:
    """Whether the process of a marker is alive. False if the marker does not exist."""
    marker = _read_marker(store, path)
    if marker is None:
        return False
    lock = store.lock(path) if marker.is_on_this_host else None
    if lock is None:
        return not marker.is_expired
    with contextlib.suppress(ResourceNotFound), lock as is_locked:
        return not is_locked
    return False


def remove_dead_marker(store: Store, path: str) -> bool:
    """Remove the marker of a dead process. False if the process is alive."""
    marker = _read_marker(store, path)
    if marker is None:
        return True
    lock = store.lock(path) if marker.is_on_this_host else None
    if lock is not None:
        with contextlib.suppress(ResourceNotFound), lock as is_locked:
            if not is_locked:
                return False
            store.delete(path)
        return True
    # A write can be conditional, a deletion cannot. The write ensures that the marker deleted is
    # not the new one of another process.
    if not (marker.is_expired and store.put(path, b"{}", over=marker.file)):
        return False
    store.delete(path)
    return True


def marker_text(owner: dict[str, str | int]) -> bytes:
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    return (json.dumps({**owner, "heartbeat": now}) + "\n").encode()


@dataclass(frozen=True)
class _StoredMarker:
    """The content of a marker. An invalid one has no host, and its file's age is its heartbeat."""

    file: StoredFile
    host: str | None
    token: str | None
    heartbeat: datetime

    @property
    def is_on_this_host(self) -> bool:
        return self.host == socket.gethostname()

    @property
    def is_expired(self) -> bool:
        return datetime.now(timezone.utc) - self.heartbeat >= DEAD_AFTER


def _read_marker(store: Store, path: str) -> _StoredMarker | None:
    stored = read_small_file(store, path)
    if stored is None:
        return None
    file, data = stored
    try:
        content = json.loads(data)
        heartbeat = datetime.fromisoformat(content["heartbeat"]).astimezone(timezone.utc)
        return _StoredMarker(file, content.get("host"), content.get("token"), heartbeat)
    except (ValueError, KeyError, TypeError, AttributeError):
        return _StoredMarker(file, None, None, file.modified_at)
