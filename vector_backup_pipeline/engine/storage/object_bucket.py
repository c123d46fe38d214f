"""A bucket: small requests to it, and what it turned out to be able to do."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import quote

from vector_backup_pipeline.engine.errors import BackupError, ResourceNotFound, StorageError
from vector_backup_pipeline.engine.storage.object_errors import UnsupportedRequest
from vector_backup_pipeline.engine.storage.object_retries import with_retries
from vector_backup_pipeline.engine.storage.object_store import (
    obstore_of,
    open_store,
    open_store_for_writing,
)
from vector_backup_pipeline.engine.storage.object_url import ObjectUrl

if TYPE_CHECKING:
    from obstore import ObjectMeta, PutMode, UpdateVersion
    from obstore.store import ObjectStore

_T = TypeVar("_T")

_PROBE_PREFIX = ".vector_backup_probe."
# Sent within a read's time-out on any line that works.
_SHORT_BODY = 1 << 20
# Other runs remove a probe that they take for a leftover, each of them once.
_CREATIONS = 3
# What an entity tag may hold, beside letters and digits; "%" is for what it may not.
_IN_A_VERSION = "!#$&'()*+,/:;<=>?@[\\]^`{|}"
_NOBODYS_TAG = '"00000000000000000000000000000000"'


@dataclass(frozen=True)
class Version:
    """Which state of an object is meant; stores differ in which of the two they need."""

    e_tag: str | None
    version: str | None

    @property
    def as_mode(self) -> UpdateVersion:
        mode: UpdateVersion = {}
        if self.e_tag is not None:
            mode["e_tag"] = self.e_tag
        if self.version is not None:
            mode["version"] = self.version
        return mode


@dataclass(frozen=True)
class StoredObject:
    """What a listing tells of an object."""

    key: str
    size: int
    last_modified: datetime
    version: Version

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]

    @property
    def version_text(self) -> str:
        """What is another text for other bytes: the store's own, in printable ASCII."""
        e_tag = self.version.e_tag or ""
        # A weak one stays where only the meaning does.
        own = "" if e_tag.startswith("W/") else e_tag.strip('"')
        told = own or self.version.version or f"{self.size}-{self.last_modified.timestamp()}"
        return quote(told, safe=_IN_A_VERSION)


@dataclass(frozen=True)
class _Abilities:
    """What a store was found to do; `clock_ahead` is how far its clock is before ours."""

    has_conditions: bool
    clock_ahead: timedelta


class Bucket:
    """Requests to one bucket, each repeated while that may help."""

    def __init__(self, url: ObjectUrl) -> None:
        self.url = url
        self._lock = threading.Lock()
        self._abilities: _Abilities | None = None

    @cached_property
    def store(self) -> ObjectStore:
        return open_store(self.url)

    @cached_property
    def _obstore(self) -> Any:
        return obstore_of(self.url)

    def at(self, key: str) -> str:
        """The key as a URL, for people."""
        return str(self.url_of(key))

    def url_of(self, key: str) -> ObjectUrl:
        return ObjectUrl(self.url.scheme, self.url.bucket, key)

    def objects(self, prefix: str) -> list[StoredObject]:
        """What lies directly under `prefix/`, without an empty object of that very name."""
        return [found for found in self._list(prefix)[0] if found.key != prefix]

    def folders(self, prefix: str) -> list[str]:
        """The names directly under `prefix/` under which something lies."""
        return self._list(prefix)[1]

    def holds_anything(self, prefix: str) -> bool:
        """Whether anything lies under `prefix/`; an empty object `prefix/` counts, which is how
        consoles make a folder.

        Raises:
            StorageError: there is no such bucket, or it can't be looked into.
        """
        return any(self._list(prefix))

    def read(self, key: str) -> tuple[bytes, Version] | None:
        """A small object whole, None if it is not there."""

        def get() -> tuple[bytes, Version]:
            found = self._obstore.get(self.store, key)
            return bytes(found.bytes()), _version(found.meta)

        return _none_if_missing(lambda: with_retries(f"read {self.at(key)}", get))

    def look(self, key: str) -> StoredObject | None:
        """The object's size, age and version, None if it is not there."""

        def head() -> StoredObject:
            return _stored_object(self._obstore.head(self.store, key))

        return _none_if_missing(lambda: with_retries(f"look at {self.at(key)}", head))

    def write(self, key: str, data: bytes) -> Version:
        """Write a small object, over whatever had the key."""
        store = self._store_for(data)
        return with_retries(
            f"write {self.at(key)}", lambda: self._put(store, key, data, "overwrite")
        )

    def write_if(self, key: str, data: bytes, state: Literal["create"] | Version) -> Version | None:
        """Write a small object if the key is free, or the object still in that state; else None.

        Only for a bucket that `has_conditions`. When the answer was lost, the repeated write finds
        the object of the first one: what equals `data` counts as written.
        """
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        mode: PutMode = "create" if state == "create" else state.as_mode
        store = self._store_for(data)
        sent = 0

        def put() -> Version | None:
            nonlocal sent
            sent += 1
            try:
                return self._put(store, key, data, mode)
            except (AlreadyExistsError, PreconditionError, FileNotFoundError) as error:
                if isinstance(error, FileNotFoundError) and state == "create":
                    raise
                return None

        written = with_retries(f"write {self.at(key)}", put)
        if written is None and sent > 1:
            found = self.read(key)
            return found[1] if found is not None and found[0] == data else None
        return written

    def delete(self, key: str) -> None:
        """Remove an object; one that is gone already is fine."""
        _none_if_missing(
            lambda: with_retries(
                f"remove {self.at(key)}", lambda: self._obstore.delete(self.store, key)
            )
        )

    def has_conditions(self, prefix: str) -> bool:
        """Whether this store keeps the conditions of a write, found out once by trying them on an
        object of our own under `prefix/`.

        A store that knows none may say so, or write in spite of the condition.
        """
        return self._abilities_at(prefix).has_conditions

    def now(self, prefix: str) -> datetime:
        """The time by the store's clock, which stamps what lies under `prefix/`; by ours where
        nothing can be written to learn it."""
        now = datetime.now(timezone.utc)
        try:
            return now + self._abilities_at(prefix).clock_ahead
        except StorageError:
            return now

    def _abilities_at(self, prefix: str) -> _Abilities:
        with self._lock:
            if self._abilities is None:
                self._abilities = self._try_abilities(prefix)
            return self._abilities

    def _try_abilities(self, prefix: str) -> _Abilities:
        key = f"{prefix}/{_PROBE_PREFIX}{uuid.uuid4().hex}"
        try:
            has_conditions = self._try_conditions(key)
            before = datetime.now(timezone.utc)
            self.write(key, b"")
            after = datetime.now(timezone.utc)
            probes = [each for each in self.objects(prefix) if each.name.startswith(_PROBE_PREFIX)]
            written = next((each.last_modified for each in probes if each.key == key), before)
            # Ours, and those of runs that were killed.
            for probe in probes:
                self.delete(probe.key)
        except BaseException:
            with contextlib.suppress(BackupError):  # The error that led here matters more.
                self.delete(key)
            raise
        return _Abilities(has_conditions, written - (before + (after - before) / 2))

    def _try_conditions(self, key: str) -> bool:
        nobodys = Version(_NOBODYS_TAG, "1")
        try:
            attempts = range(1 + _CREATIONS)
            has_refused = any(self.write_if(key, b"%d" % n, "create") is None for n in attempts)
            return has_refused and self.write_if(key, b"", nobodys) is None
        except UnsupportedRequest:
            return False

    def _store_for(self, data: bytes) -> ObjectStore:
        return (
            self.store if len(data) <= _SHORT_BODY else open_store_for_writing(self.url, len(data))
        )

    def _put(self, store: ObjectStore, key: str, data: bytes, mode: PutMode) -> Version:
        found = self._obstore.put(store, key, data, mode=mode, use_multipart=False)
        return Version(found["e_tag"], found["version"])

    def _list(self, prefix: str) -> tuple[list[StoredObject], list[str]]:
        found = with_retries(
            f"list {self.at(prefix)}",
            lambda: self._obstore.list_with_delimiter(self.store, prefix or None),
        )
        objects = [_stored_object(each) for each in found["objects"]]
        folders = [each.rstrip("/").rpartition("/")[2] for each in found["common_prefixes"]]
        return objects, folders


def _none_if_missing(request: Callable[[], _T]) -> _T | None:
    try:
        return request()
    except ResourceNotFound:
        return None


def _stored_object(meta: ObjectMeta) -> StoredObject:
    return StoredObject(meta["path"], meta["size"], meta["last_modified"], _version(meta))


def _version(meta: ObjectMeta) -> Version:
    return Version(meta["e_tag"], meta["version"])
