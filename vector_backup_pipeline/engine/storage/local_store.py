"""A local or mounted directory as a store."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import shutil
import stat
import sys
from collections.abc import Callable, Generator, Iterator
from datetime import datetime, timezone
from pathlib import Path

from vector_backup_pipeline.engine.errors import InvalidParams, ResourceNotFound, StorageError
from vector_backup_pipeline.engine.file_names import PENDING_SUFFIX
from vector_backup_pipeline.engine.storage import store
from vector_backup_pipeline.engine.storage.object_url import is_url

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NOT_WRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS}


class LocalStore:
    """Implements `store.Store`. Files are written as `{name}.tmp`, flushed, and renamed."""

    def __init__(self, root: str | Path) -> None:
        self._root = Path(root).absolute()

    def location(self, path: str = "") -> str:
        return str(self._root / path)

    def folder_at(self, location: str) -> str:
        if is_url(location):
            # Not repeated, since it may contain a password.
            raise InvalidParams(
                f"The backup_path is a URL, but the root is the directory {self._root}. Give a "
                "path under it, or set VECTOR_BACKUP_ROOT."
            )
        with _storage_errors(f"resolve {location}"):
            resolved, root = _resolved(self._root.parent / location), _resolved(self._root)
        if not resolved.is_relative_to(root):
            raise InvalidParams(
                f"The backup_path {location!r} is outside of the root {self._root}. Give a path "
                f"under it: absolute, or relative to its parent, such as {self._root.name}/…; or "
                "set VECTOR_BACKUP_ROOT."
            )
        folder = resolved.relative_to(root).as_posix()
        return "" if folder == "." else folder

    def make_folder(self, folder: str) -> Callable[[], None]:
        path = self._folder(folder)
        with _storage_errors(f"create the directory {path}"):
            missing = [parent for parent in (path, *path.parents) if not parent.is_dir()]
            for directory in reversed(missing):
                directory.mkdir(exist_ok=True)
                # Otherwise a power failure may lose the directory and its contents.
                _flush_directory(directory.parent)

        def remove() -> None:
            with contextlib.suppress(OSError):  # It is not empty.
                for directory in missing:
                    directory.rmdir()

        return remove

    def free_bytes(self) -> int:
        with _storage_errors(f"determine the free space of {self._root}"):
            existing = next(path for path in (self._root, *self._root.parents) if path.is_dir())
            return shutil.disk_usage(existing).free

    def list_folder(self, folder: str) -> store.Listing | None:
        path = self._folder(folder)
        files, folders = [], []
        with _storage_errors(f"list {path}"):
            if not path.is_dir():
                return None
            with os.scandir(path) as entries:
                for entry in entries:
                    status = _stat(entry)
                    # A name that is not UTF-8 is not ours, and fits in no JSON.
                    if status is None or entry.name.encode(errors="ignore").decode() != entry.name:
                        continue
                    if stat.S_ISDIR(status.st_mode):
                        folders.append(entry.name)
                    else:
                        files.append(_stored_file(entry.name, status))
        return store.Listing(sorted(files, key=lambda file: file.name), sorted(folders))

    def stat(self, path: str) -> store.StoredFile:
        file = self._root / path
        with _storage_errors(f"read the size of {file}"):
            status = file.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise ResourceNotFound(f"{file} is not a regular file.")
        return _stored_file(file.name, status)

    def open(self, path: str, offset: int = 0, length: int | None = None) -> store.OpenFile:
        file = self._root / path
        with _storage_errors(f"read {file}"):
            opened = io.FileIO(file)
            if sys.platform == "linux" and not offset and length is None:
                # A verification must read the bytes on disk, not those in the page cache.
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            stored = _stored_file(file.name, os.fstat(opened.fileno()))
        chunks = _chunks(opened, offset, length)
        next(chunks)
        return store.OpenFile(stored, chunks)

    def create(self, path: str, data: bytes) -> store.CreatedFile | None:
        file = self._root / path
        with _storage_errors(f"create {file}"):
            try:
                descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            except FileExistsError:
                return None
            lock = _LocalLock(descriptor)
            try:
                lock.acquire(wait=True)
                if not lock.is_at(file):
                    # Before it was locked, another process removed it as the marker of a dead run.
                    lock.release()
                    return self.create(path, data)
                with open(descriptor, "wb", closefd=False) as opened:
                    opened.write(data)
                os.fsync(descriptor)
                _flush_directory(file.parent)
                return store.CreatedFile(_stored_file(file.name, os.fstat(descriptor)), lock)
            except BaseException:
                file.unlink(missing_ok=True)
                lock.release()
                raise

    def put(
        self, path: str, data: bytes, over: store.StoredFile | None = None
    ) -> store.StoredFile | None:
        if over is None:
            return self._replace(path, data)
        with self.lock(path) as is_locked:
            if not is_locked or self.stat(path).version != over.version:
                return None
            # Because of the lock, an existing temporary file belongs to a dead process.
            self.delete(path + PENDING_SUFFIX)
            return self._replace(path, data)

    def _replace(self, path: str, data: bytes) -> store.StoredFile:
        upload = self.upload(path)
        try:
            upload.write(data)
            upload.complete()
            return self.stat(path)
        finally:
            upload.abort()

    # A local file has no parts, whose size `expected_size` would decide.
    def upload(self, path: str, expected_size: int | None = None) -> LocalUpload:  # noqa: ARG002
        return LocalUpload(self._root / path)

    def delete(self, path: str) -> None:
        file = self._root / path
        with _storage_errors(f"remove {file}"):
            file.unlink(missing_ok=True)
            _flush_directory(file.parent)

    @contextlib.contextmanager
    def lock(self, path: str) -> Iterator[bool]:
        file = self._root / path
        while True:
            with _storage_errors(f"lock {file}"):
                lock = _LocalLock(_open_for_lock(file))
            try:
                is_locked = lock.acquire()
                if not is_locked or lock.is_at(file):
                    yield is_locked
                    return
            finally:
                lock.release()  # Also of a file that was replaced since it was opened.

    def unfinished_uploads(self) -> list[store.UnfinishedUpload]:
        return []  # A killed process leaves a `.tmp`, which the next run removes.

    def _folder(self, folder: str) -> Path:
        path = self._root / folder
        with _storage_errors(f"resolve {path}"):
            is_inside = _resolved(path).is_relative_to(_resolved(self._root))
        if not is_inside:
            raise InvalidParams(
                f"A symbolic link leads the backup directory {path} out of the root {self._root}. "
                "Replace the link by a directory or a mount, or set VECTOR_BACKUP_ROOT to the "
                "directory that holds the backups."
            )
        return path


class LocalUpload:
    """`{name}.tmp` until it is complete."""

    def __init__(self, final: Path) -> None:
        self._final = final
        self._pending = final.with_name(final.name + PENDING_SUFFIX)
        with _storage_errors(f"create {self._pending}"):
            self._file = self._pending.open("xb")

    def write(self, data: bytes) -> None:
        with _storage_errors(f"write {self._pending}"):
            self._file.write(data)

    def complete(self) -> None:
        with _storage_errors(f"complete {self._final}"):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._pending.rename(self._final)
            self._file.close()
            _flush_directory(self._final.parent)

    def abort(self) -> None:
        if self._file.closed:
            return  # After `complete`, a `.tmp` of that name is another writer's.
        with contextlib.suppress(OSError):  # The next run removes what can't be removed now.
            self._pending.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._file.close()


class _LocalLock:
    """`flock` on an open file. The kernel releases it when the process ends for any reason."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def acquire(self, *, wait: bool = False) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True

    def is_at(self, path: Path) -> bool:
        """Whether `path` still names the open file."""
        try:
            return os.path.samestat(os.fstat(self._descriptor), path.stat())
        except FileNotFoundError:
            return False

    def rewrite(self, data: bytes) -> None:
        with _storage_errors("write a locked file"):
            os.pwrite(self._descriptor, data, 0)

    def release(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._descriptor)


def _chunks(file: io.FileIO, offset: int, length: int | None) -> Generator[bytes, None, None]:
    """The chunks, after an empty one: only a started generator closes its file."""
    left = sys.maxsize if length is None else length
    with _storage_errors(f"read {file.name}"), file:
        file.seek(offset)
        yield b""
        while chunk := file.read(min(store.CHUNK_BYTES, left)):
            left -= len(chunk)
            yield chunk


def _stored_file(name: str, status: os.stat_result) -> store.StoredFile:
    modified_at = datetime.fromtimestamp(status.st_mtime, timezone.utc)
    version = store.version_of(status.st_size, status.st_mtime_ns, status.st_ino)
    return store.StoredFile(name, status.st_size, modified_at, version)


def _stat(entry: os.DirEntry[str]) -> os.stat_result | None:
    """The status of an entry, for a broken link that of the link. None if the entry was removed
    since it was listed."""
    for follows_links in (True, False):
        with contextlib.suppress(OSError):
            return entry.stat(follow_symlinks=follows_links)
    return None


def _resolved(path: Path) -> Path:
    return Path(os.path.realpath(path))  # Unlike Path.resolve, it takes loops of links.


def _open_for_lock(file: Path) -> int:
    try:
        return os.open(file, os.O_RDWR)  # NFS wants that for an exclusive lock.
    except OSError as error:
        if error.errno not in _NOT_WRITABLE:
            raise
        return os.open(file, os.O_RDONLY)


def _flush_directory(path: Path) -> None:
    """Make a directory's entries durable: a power failure may undo a rename."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _storage_errors(action: str) -> Iterator[None]:
    """Convert an OSError of the block to a BackupError: "Could not {action}: …"."""
    try:
        yield
    except FileNotFoundError as error:
        raise ResourceNotFound(f"Could not {action}: it does not exist.") from error
    except OSError as error:
        raise StorageError(f"Could not {action}: {error.strerror}.", _advice(error)) from error


def _advice(error: OSError) -> str:
    if error.errno in _NO_SPACE:
        return "Free space there, or set VECTOR_BACKUP_ROOT to a location with more."
    if error.errno in _NOT_WRITABLE:
        return "Let this process's user write there, or set VECTOR_BACKUP_ROOT to another location."
    return "Check that the disk or mount works."
