"""A run's marker in a bucket: who is writing there, and whether it still lives.

Where the store keeps conditions, a marker is created or it is taken. Where it keeps none, each run
writes one of its own, `{name}.{token}`, and then looks who else has one: of two at once, the later
to write sees the other, so that both may give up, but never do both go on. That needs a store
that lists what was written before, as all of them do today.

A marker is rewritten every minute; the store's own clock says when that was.
"""

from __future__ import annotations

import contextlib
import json
import random
import time
import uuid
from collections.abc import Mapping
from datetime import datetime, timezone

from vector_backup_pipeline.engine.errors import BackupError
from vector_backup_pipeline.engine.storage.contract import DEAD_AFTER
from vector_backup_pipeline.engine.storage.heart import Heart
from vector_backup_pipeline.engine.storage.object_bucket import Bucket, StoredObject, Version

_LONGEST_WAIT = 0.3


class ObjectClaim:
    """A marker with a heartbeat, until `release`."""

    def __init__(self, bucket: Bucket, key: str, marker: _Marker, version: Version | None) -> None:
        self._bucket = bucket
        self._key = key
        self._marker = marker
        self._version = version
        self._is_released = False
        self._heart = Heart(self._try_to_beat)

    def start(self) -> None:
        self._heart.start()

    def release(self) -> None:
        if self._is_released:
            return
        self._heart.stop()
        self._is_released = True
        with contextlib.suppress(BackupError):
            # Taken for dead, it may have been replaced by another run's.
            if self._marker.is_in(self._bucket, self._key):
                self._bucket.delete(self._key)

    def _try_to_beat(self) -> bool:
        try:
            return self._beat()
        except BackupError:
            # A store out of reach must not end the run's claim; the next beat makes up for it.
            return True

    def _beat(self) -> bool:
        """False when the marker is not ours any more; it is not made again then."""
        if self._version is None:
            if not self._marker.is_in(self._bucket, self._key):
                return False
            self._bucket.write(self._key, self._marker.text())
            return True
        written = self._bucket.write_if(self._key, self._marker.text(), self._version)
        if written is None:
            # Not ours any more, or the last answer was lost.
            written = self._marker.version_in(self._bucket, self._key)
        self._version = written or self._version
        return written is not None


class _Marker:
    """What a marker says; its token tells it from every other."""

    def __init__(self, owner: Mapping[str, str | int]) -> None:
        self._owner = dict(owner)
        self.token = uuid.uuid4().hex

    def text(self) -> bytes:
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        said = self._owner | {"heartbeat": now, "token": self.token}
        return (json.dumps(said) + "\n").encode()

    def is_in(self, bucket: Bucket, key: str) -> bool:
        return self.version_in(bucket, key) is not None

    def version_in(self, bucket: Bucket, key: str) -> Version | None:
        found = bucket.read(key)
        if found is None or f'"token": "{self.token}"'.encode() not in found[0]:
            return None
        return found[1]


def claim(
    bucket: Bucket, folder: str, name: str, owner: Mapping[str, str | int]
) -> ObjectClaim | None:
    """Take `name` in `folder` with a marker; None if somebody has it."""
    marker = _Marker(owner)
    has_conditions = bucket.has_conditions(folder)
    key = f"{folder}/{name}" if has_conditions else f"{folder}/{name}.{marker.token}"
    try:
        version = None
        if not has_conditions:
            bucket.write(key, marker.text())
        elif (version := bucket.write_if(key, marker.text(), "create")) is None:
            return None
        # Also with conditions: another run may have been told that there are none.
        if [found.key for found in markers(bucket, folder, name)] == [key]:
            held = ObjectClaim(bucket, key, marker, version)
            held.start()
            return held
    except BaseException:
        with contextlib.suppress(BackupError):  # The error that led here matters more.
            if marker.is_in(bucket, key):
                bucket.delete(key)
        raise
    bucket.delete(key)
    # So that two runs that both gave up do not go on in step.
    time.sleep(random.uniform(0, _LONGEST_WAIT))  # noqa: S311
    return None


def markers(bucket: Bucket, folder: str, name: str) -> list[StoredObject]:
    """Every run's marker of that name."""
    return [
        found
        for found in bucket.objects(folder)
        if found.name == name or found.name.startswith(f"{name}.")
    ]


def remove_dead(bucket: Bucket, folder: str, name: str) -> None:
    """Remove the markers of that name whose runs are dead."""
    for found in markers(bucket, folder, name):
        if is_alive(bucket, found):
            continue
        # One that carries its run's token nobody takes again.
        if found.name != name or not bucket.has_conditions(folder) or _take_over(bucket, found.key):
            bucket.delete(found.key)


def _take_over(bucket: Bucket, key: str) -> bool:
    """Make a dead marker ours, so that nobody else puts a new one in its place before it is
    removed; False if somebody has. A removal knows no condition, a write does."""
    seen, found = bucket.read(key), bucket.look(key)
    if seen is None or found is None or is_alive(bucket, found):
        return False
    return bucket.write_if(key, _Marker({}).text(), seen[1]) is not None


def is_alive(bucket: Bucket, marker: StoredObject) -> bool:
    """Whether the marker was rewritten lately, by the clock of the store that dates it."""
    folder = marker.key.rpartition("/")[0]
    return bucket.now(folder) - marker.last_modified < DEAD_AFTER
