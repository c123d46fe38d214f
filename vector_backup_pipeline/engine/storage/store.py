"""The contract of a store: the few primitives that every kind of storage offers.

A store holds files under one root. A path is relative to it, with `/` between its parts; a folder
is a path too, and `""` is the root.

- A file appears complete or not at all, and is durable by then. A file system may show a file of
  `create` an instant before its content.
- `delete` and `put` may be repeated. `create`, and `put` over a version, write for one of several
  concurrent callers.
- Errors: `ResourceNotFound` for what does not exist, `TransientStorageError` if the same request
  may succeed later, any other `StorageError` if it won't. Callers see no exception of a library.
"""

import hashlib
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from vector_backup_pipeline.engine.errors import StorageError

# Large enough for fast reads, small compared with the few MB of a worker.
CHUNK_BYTES = 1 << 20


class TransientStorageError(StorageError):
    """The store could not be reached, or is overloaded. The request may have been executed."""


@dataclass(frozen=True)
class StoredFile:
    """A file as it is stored. `version` differs whenever the bytes may differ, and is printable
    ASCII without quotes or spaces. `modified_at` is by the clock of the store."""

    name: str
    size: int
    modified_at: datetime
    version: str
    # How the store itself identifies this version.
    state: object = field(default=None, compare=False, repr=False)


def version_of(*parts: object) -> str:
    """A version derived from attributes that change with the bytes. Hashed, since API clients see
    it."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Listing:
    """The files in a folder, and the names of its subfolders."""

    files: list[StoredFile]
    folders: list[str]


@dataclass(frozen=True)
class OpenFile:
    """A part of a file, in chunks of at most about a MiB. Close `chunks` after use."""

    file: StoredFile
    chunks: Generator[bytes, None, None]


class FileLock(Protocol):
    """An exclusive lock on a file, released when its process ends."""

    def rewrite(self, data: bytes) -> None:
        """Overwrite the file in place, which keeps the lock. `data` has the length of the file."""

    def release(self) -> None:
        """Raises nothing."""


@dataclass(frozen=True)
class CreatedFile:
    """A file that this process has created, locked if the store has locks."""

    file: StoredFile
    lock: FileLock | None = None


class Upload(Protocol):
    """A file of any size being written. It is not visible before `complete`."""

    def write(self, data: bytes) -> None: ...

    def complete(self) -> None:
        """Make the file visible. After a `TransientStorageError`, it may be."""

    def abort(self) -> None:
        """Remove what was not completed. Raises nothing."""


@dataclass(frozen=True)
class UnfinishedUpload:
    """Invisible parts of an upload that was neither completed nor aborted. `size` asks for their
    bytes, None if unknown; `abort` raises `ResourceNotFound` if it was aborted meanwhile."""

    path: str
    started_at: datetime
    size: Callable[[], int | None]
    abort: Callable[[], None]


class Store(Protocol):
    """The primitives. All may be called from several threads."""

    def location(self, path: str = "") -> str:
        """The absolute path or URL, for messages and results."""

    def folder_at(self, location: str) -> str:
        """The folder that a user names: by a location, or relative to the parent of the root.
        Raises `InvalidParams` if it is outside of the root."""

    def make_folder(self, folder: str) -> Callable[[], None]:
        """Create it, with its parents, if the store needs that. Returns a function that removes the
        created folders that are empty. Raises `InvalidParams` if a symbolic link leads it out of
        the root."""

    def free_bytes(self) -> int | None:
        """The free space, None if there is no such limit."""

    def list_folder(self, folder: str) -> Listing | None:
        """What is in a folder, sorted by name. None if the folder does not exist. A bucket has a
        folder as soon as there is an object under it. Raises `InvalidParams` if a symbolic link
        leads it out of the root."""

    def stat(self, path: str) -> StoredFile:
        """A regular file. Symbolic links count as missing."""

    def open(self, path: str, offset: int = 0, length: int | None = None) -> OpenFile:
        """`length` bytes from `offset` on, or all. A file that ends before ends the chunks."""

    def create(self, path: str, data: bytes) -> CreatedFile | None:
        """Write a small file. None if the name is taken."""

    def put(self, path: str, data: bytes, over: StoredFile | None = None) -> StoredFile | None:
        """Write a small file: replacing any file of that name, or only this version of it. None if
        the file no longer has that version."""

    def upload(self, path: str, expected_size: int | None = None) -> Upload:
        """Start writing a file. The part size is derived from `expected_size`, an estimate in
        bytes."""

    def delete(self, path: str) -> None:
        """Remove a file if it exists."""

    def lock(self, path: str) -> AbstractContextManager[bool] | None:
        """Lock an existing file; False if another process has it locked, which shows that a process
        on the same host is alive. None if the store has no locks."""

    def unfinished_uploads(self) -> list[UnfinishedUpload]:
        """Unfinished uploads, which no listing shows. Empty if the store has none, or cannot list
        them."""
