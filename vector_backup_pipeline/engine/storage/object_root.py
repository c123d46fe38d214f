"""Backups in a bucket: what is under a prefix is a directory, and none has to be made."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

from vector_backup_pipeline.engine.errors import InvalidParams, ResourceNotFound
from vector_backup_pipeline.engine.secrets import SecretText
from vector_backup_pipeline.engine.storage import object_claim, object_log
from vector_backup_pipeline.engine.storage.abandoned_uploads import abort_abandoned_uploads
from vector_backup_pipeline.engine.storage.contract import (
    AbandonedUpload,
    BackupDirectory,
    check_is_no_backup_directory,
)
from vector_backup_pipeline.engine.storage.object_bucket import Bucket, StoredObject
from vector_backup_pipeline.engine.storage.object_reading import read_object
from vector_backup_pipeline.engine.storage.object_upload import ObjectPendingFile, part_size_for
from vector_backup_pipeline.engine.storage.object_url import (
    S3,
    ObjectUrl,
    check_key,
    is_url,
    parse_object_url,
)


class ObjectRoot:
    """A prefix of a bucket that holds `{directory}/` and `{task_id}/{directory}/`."""

    def __init__(
        self,
        root: str,
        directory: str,
        part_size: int | None = None,
        manifest_key: SecretText | None = None,
    ) -> None:
        self._url = parse_object_url(root)
        self._directory = directory
        self._part_size = part_size
        self._manifest_key = manifest_key
        self._bucket = Bucket(self._url)

    @property
    def location(self) -> str:
        return str(self._url)

    @property
    def default_path(self) -> str:
        return str(self._url / self._directory)

    def free_bytes(self) -> None:
        return None

    def task_ids(self, accept: Callable[[str], bool]) -> list[str]:
        return sorted(
            name
            for name in self._bucket.folders(self._url.key)
            if name != self._directory and accept(name)
        )

    def find_path(self, path: str) -> ObjectDirectory | None:
        url = self._url_of(path)
        root = self._url.segments
        if url.scheme != self._url.scheme or url.segments[: len(root)] != root:
            raise InvalidParams(
                f"The backup_path {path!r} lies outside of the root {self._url}. Give a path under "
                f"it, relative to what is above it such as {root[-1]}/{self._directory}, or a URL; "
                "or set VECTOR_BACKUP_ROOT."
            )
        is_there = self._bucket.holds_anything(url.key)
        # A bucket is there, empty as it may be; a prefix is where something lies under it.
        return self._at(url) if is_there or not url.key else None

    def relative_path(self, directory: BackupDirectory) -> str:
        above = len(self._url.segments) - 1
        return "/".join(parse_object_url(directory.location).segments[above:])

    def find(self, task_id: str | None) -> ObjectDirectory | None:
        url = self._place(task_id)
        return self._at(url) if self._bucket.holds_anything(url.key) else None

    def open(self, task_id: str | None) -> ObjectDirectory:
        url = self._place(task_id)
        if task_id is None:
            # A wrong bucket or wrong credentials shall be known before anything is begun.
            self._bucket.holds_anything(url.key)
        return self._at(url)

    @contextlib.contextmanager
    def open_for_trial(self, task_id: str | None) -> Iterator[ObjectDirectory]:
        yield self.open(task_id)

    def abort_abandoned_uploads(self, *, dry_run: bool) -> list[AbandonedUpload]:
        if self._url.scheme != S3:
            return []  # Neither can be asked; both remove parts by themselves: docs/storage.md.
        return abort_abandoned_uploads(self._bucket, self._url, self._directory, dry_run=dry_run)

    def _url_of(self, path: str) -> ObjectUrl:
        if is_url(path):
            return parse_object_url(path)
        check_key(path.rstrip("/"))
        above = self._url.segments[:-1]
        return self._url.with_segments((*above, *path.rstrip("/").split("/")))

    def _place(self, task_id: str | None) -> ObjectUrl:
        if task_id is None:
            return self._url / self._directory
        check_is_no_backup_directory(task_id, self._directory)
        task = self._url / task_id
        if not self._bucket.holds_anything(task.key):
            raise ResourceNotFound(
                f"Nothing lies under {task}/, so there is no such task. Put an object there, even "
                "an empty one, check task_id, or leave task_id out to back up under the root "
                "itself."
            )
        return task / self._directory

    def _at(self, url: ObjectUrl) -> ObjectDirectory:
        return ObjectDirectory(self._bucket, url, self._part_size, self._manifest_key)


class ObjectDirectory:
    """What lies directly under one prefix."""

    def __init__(
        self,
        bucket: Bucket,
        url: ObjectUrl,
        part_size: int | None = None,
        manifest_key: SecretText | None = None,
    ) -> None:
        self._bucket = bucket
        self._url = url
        self._part_size = part_size
        self.manifest_key = manifest_key

    @property
    def location(self) -> str:
        return str(self._url)

    def names(self) -> list[str]:
        return sorted(self.sizes())

    def sizes(self) -> dict[str, int]:
        return {found.name: found.size for found in self._bucket.objects(self._url.key)}

    @contextlib.contextmanager
    def create(self, name: str, expected_size: int | None = None) -> Iterator[ObjectPendingFile]:
        part_size = self._part_size or part_size_for(expected_size)
        pending = ObjectPendingFile(self._bucket, self._key(name), part_size)
        try:
            yield pending
        finally:
            pending.discard()

    def size(self, name: str) -> int:
        return self._look(name).size

    def version(self, name: str) -> str:
        return self._look(name).version_text

    def modified_at(self, name: str) -> datetime:
        return self._look(name).last_modified

    def read(self, name: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        return read_object(self._bucket, self._key(name), offset, length)

    def replace(self, name: str, data: bytes) -> None:
        self._bucket.write(self._key(name), data)

    def delete(self, name: str) -> None:
        self._bucket.delete(self._key(name))

    def append(self, name: str, text: str) -> None:
        object_log.append(self._bucket, self._url.key, name, text)

    def claim(self, name: str, owner: Mapping[str, str | int]) -> object_claim.ObjectClaim | None:
        return object_claim.claim(self._bucket, self._url.key, name, owner)

    def claim_is_alive(self, name: str) -> bool:
        return any(object_claim.is_alive(self._bucket, each) for each in self._markers(name))

    def remove_dead_claim(self, name: str) -> None:
        object_claim.remove_dead(self._bucket, self._url.key, name)

    def _markers(self, name: str) -> list[StoredObject]:
        return object_claim.markers(self._bucket, self._url.key, name)

    def _look(self, name: str) -> StoredObject:
        found = self._bucket.look(self._key(name))
        if found is None:
            raise ResourceNotFound(f"Could not look at {self._url / name}: it does not exist.")
        return found

    def _key(self, name: str) -> str:
        return (self._url / name).key
