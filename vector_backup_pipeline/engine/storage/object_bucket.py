"""A bucket: small requests to it, and what it turned out to be able to do."""

from __future__ import annotations

import contextlib
import threading
import uuid
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from vector_backup_pipeline.engine.errors import BackupError, ResourceNotFound
from vector_backup_pipeline.engine.storage.object_errors import (
    is_condition_unknown,
    object_errors,
    store_exceptions,
)
from vector_backup_pipeline.engine.storage.object_store import obstore_of, open_store
from vector_backup_pipeline.engine.storage.object_url import ObjectUrl

if TYPE_CHECKING:
    from obstore import ObjectMeta, PutMode, UpdateVersion
    from obstore.store import ObjectStore

_PROBE_PREFIX = ".vector_backup_probe."
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


class Bucket:
    """Requests to one bucket. Errors are ours, save where a method says otherwise."""

    def __init__(self, url: ObjectUrl) -> None:
        self.url = url
        self._lock = threading.Lock()
        self._has_conditions: bool | None = None

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
        try:
            with object_errors(f"read {self.at(key)}"):
                found = self._obstore.get(self.store, key)
                data = bytes(found.bytes())
                return data, _version(found.meta)
        except ResourceNotFound:
            return None

    def look(self, key: str) -> StoredObject | None:
        """The object's size, age and version, None if it is not there."""
        try:
            with object_errors(f"look at {self.at(key)}"):
                found = self._obstore.head(self.store, key)
        except ResourceNotFound:
            return None
        return _stored_object(found)

    def write(self, key: str, data: bytes) -> Version:
        """Write a small object, over whatever had the key."""
        with object_errors(f"write {self.at(key)}"):
            return self._put(self.store, key, data, "overwrite")

    def write_if(self, key: str, data: bytes, state: Literal["create"] | Version) -> Version | None:
        """Write a small object if the key is free, or the object still in that state; else None.

        Only for a bucket that `has_conditions`. None may also mean that it was written, and that
        the answer was lost: the caller has to look.
        """
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        mode: PutMode = "create" if state == "create" else state.as_mode
        with object_errors(f"write {self.at(key)}"):
            try:
                return self._put(self.store, key, data, mode)
            except (AlreadyExistsError, PreconditionError, FileNotFoundError) as error:
                if isinstance(error, FileNotFoundError) and state == "create":
                    raise
                return None

    def delete(self, key: str) -> None:
        """Remove an object; one that is gone already is fine."""
        try:
            with object_errors(f"remove {self.at(key)}"):
                self._obstore.delete(self.store, key)
        except ResourceNotFound:
            pass

    def has_conditions(self, prefix: str) -> bool:
        """Whether this store keeps the conditions of a write, found out once by trying them on an
        object of our own under `prefix/`.

        A store that knows none may say so, or write in spite of the condition.
        """
        with self._lock:
            if self._has_conditions is None:
                self._has_conditions = self._try_conditions(f"{prefix}/{_PROBE_PREFIX}")
            return self._has_conditions

    def _try_conditions(self, probe: str) -> bool:
        key = f"{probe}{uuid.uuid4().hex}"
        nobodys = Version(_NOBODYS_TAG, "1")
        try:
            self._put_probe(key, "create")
            kept = not (self._put_probe(key, "create") or self._put_probe(key, nobodys.as_mode))
        except _ConditionUnknown:
            kept = False
        except BaseException:
            with contextlib.suppress(BackupError):  # The error that led here matters more.
                self.delete(key)
            raise
        self.delete(key)
        return kept

    def _put_probe(self, key: str, mode: PutMode) -> bool:
        """Whether it was written.

        Asked once first: the driver takes a "not implemented" for a passing trouble.
        """
        try:
            return self._is_written(open_store(self.url, is_patient=False), key, mode)
        except store_exceptions() as error:
            if is_condition_unknown(error):
                raise _ConditionUnknown from None
        with object_errors(f"write {self.at(key)}"):
            return self._is_written(self.store, key, mode)

    def _is_written(self, store: ObjectStore, key: str, mode: PutMode) -> bool:
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        try:
            self._put(store, key, b"", mode)
        except (AlreadyExistsError, PreconditionError):
            return False
        return True

    def _put(self, store: ObjectStore, key: str, data: bytes, mode: PutMode) -> Version:
        found = self._obstore.put(store, key, data, mode=mode, use_multipart=False)
        return Version(found["e_tag"], found["version"])

    def _list(self, prefix: str) -> tuple[list[StoredObject], list[str]]:
        with object_errors(f"list {self.at(prefix)}"):
            found = self._obstore.list_with_delimiter(self.store, prefix or None)
        objects = [_stored_object(each) for each in found["objects"]]
        folders = [each.rstrip("/").rpartition("/")[2] for each in found["common_prefixes"]]
        return objects, folders


class _ConditionUnknown(Exception):
    """The store refuses conditions."""


def _stored_object(meta: ObjectMeta) -> StoredObject:
    return StoredObject(meta["path"], meta["size"], meta["last_modified"], _version(meta))


def _version(meta: ObjectMeta) -> Version:
    return Version(meta["e_tag"], meta["version"])
