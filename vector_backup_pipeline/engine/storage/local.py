"""Backups in a local (or mounted) directory."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

from vector_backup_pipeline.engine.errors import (
    IntegrityError,
    InvalidParams,
    ResourceNotFound,
    StorageError,
)
from vector_backup_pipeline.engine.secrets import SecretText
from vector_backup_pipeline.engine.storage.contract import (
    AbandonedUpload,
    BackupDirectory,
    check_is_no_backup_directory,
)
from vector_backup_pipeline.engine.storage.local_claim import LocalClaim, is_alive, remove_if_dead
from vector_backup_pipeline.engine.storage.object_url import is_url

# Large enough that a read costs no more than its bytes, small beside a worker's few MB.
READ_BYTES = 1 << 20
_PENDING_SUFFIX = ".tmp"

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NOTHING_TO_REMOVE = {errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST}
_NOT_WRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS}


class LocalRoot:
    """A directory that holds `{directory}/` and `{task_id}/{directory}/`."""

    def __init__(self, root: str, directory: str, manifest_key: SecretText | None = None) -> None:
        self._root = Path(root).absolute()
        self._directory = directory
        self._manifest_key = manifest_key

    @property
    def location(self) -> str:
        return str(self._root)

    @property
    def default_path(self) -> str:
        return str(self._root / self._directory)

    def free_bytes(self) -> int:
        with _storage_errors(f"look for free space in {self._root}"):
            existing = next(path for path in (self._root, *self._root.parents) if path.is_dir())
            return shutil.disk_usage(existing).free

    def task_ids(self, accept: Callable[[str], bool]) -> list[str]:
        with _storage_errors(f"look for {self._root}"):
            is_there = self._root.is_dir()
        if not is_there:
            return []
        with _storage_errors(f"list {self._root}"), os.scandir(self._root) as entries:
            return sorted(
                entry.name
                for entry in entries
                if entry.name != self._directory
                and accept(entry.name)
                and entry.is_dir()
                and not self._leads_out(Path(entry.path, self._directory))
            )

    def find_path(self, path: str) -> LocalDirectory | None:
        if is_url(path):
            # Not repeated: it may hold a password.
            raise InvalidParams(
                f"The backup_path is a URL, and the root is the directory {self._root}. Give a "
                "path under it, or set VECTOR_BACKUP_ROOT."
            )
        found = self._root.parent / path
        with _storage_errors(f"look for {path}"):
            leads_out = self._leads_out(found)
            is_there = not leads_out and found.is_dir()
        if leads_out:
            raise InvalidParams(
                f"The backup_path {path!r} lies outside of the root {self._root}. Give a path "
                f"under it, relative to its parent such as {self._root.name}/{self._directory}, "
                "or absolute; or set VECTOR_BACKUP_ROOT."
            )
        return self._at(found.resolve()) if is_there else None

    def relative_path(self, directory: BackupDirectory) -> str:
        location = Path(directory.location)
        for parent in (self._root.parent, self._root.resolve().parent):
            if location.is_relative_to(parent):
                return str(location.relative_to(parent))
        return str(location)

    def find(self, task_id: str | None) -> LocalDirectory | None:
        path = self._place(task_id)
        with _storage_errors(f"look for the backup directory {path}"):
            is_there = path.is_dir()
        return self._at(path) if is_there else None

    def open(self, task_id: str | None) -> LocalDirectory:
        path = self._place(task_id)
        with _storage_errors(f"make the backup directory {path}"):
            _make_directory(path, parents=task_id is None)
        return self._at(path)

    @contextlib.contextmanager
    def open_for_trial(self, task_id: str | None) -> Iterator[LocalDirectory]:
        path = self._place(task_id)
        with _storage_errors(f"look for {path}"):
            missing = [each for each in (path, *path.parents) if not each.exists()]
        try:
            yield self.open(task_id)
        finally:
            _remove_empty_directories(missing)

    def abort_abandoned_uploads(
        self,
        *,
        dry_run: bool,  # noqa: ARG002 - there are none either way.
    ) -> list[AbandonedUpload]:
        return []  # What a killed run leaves here is a `.tmp`, which the next run removes.

    def _leads_out(self, path: Path) -> bool:
        """Whether `path` is outside of the root: by itself, by "..", or by a symbolic link."""
        try:
            found = path.resolve()
        except RuntimeError:
            return False  # A loop of links, before Python 3.13, which leads nowhere.
        return not found.is_relative_to(self._root.resolve())

    def _place(self, task_id: str | None) -> Path:
        path = self._root / (task_id or "") / self._directory
        with _storage_errors(f"look for the backup directory {path}"):
            leads_out = self._leads_out(path)
        if leads_out:
            raise InvalidParams(
                f"A symbolic link leads the backup directory {path} out of the root {self._root}. "
                "Replace the link by a directory or a mount, or set VECTOR_BACKUP_ROOT to the "
                "directory that holds the backups."
            )
        if task_id is None:
            return path
        check_is_no_backup_directory(task_id, self._directory)
        task = self._root / task_id
        with _storage_errors(f"look for the task directory {task}"):
            is_there = task.is_dir()
        if not is_there:
            raise ResourceNotFound(
                f"The task directory {task} does not exist. Create it, check task_id, or leave "
                "task_id out to back up under the root itself."
            )
        return path

    def _at(self, path: Path) -> LocalDirectory:
        return LocalDirectory(path, self._manifest_key)


class LocalDirectory:
    """One directory of backup sets on a POSIX file system."""

    def __init__(self, path: Path, manifest_key: SecretText | None = None) -> None:
        self._path = path
        self.manifest_key = manifest_key

    @property
    def location(self) -> str:
        return str(self._path)

    def names(self) -> list[str]:
        with _storage_errors(f"list {self._path}"), os.scandir(self._path) as entries:
            return sorted(each.name for each in entries if _is_file(each) and _is_text(each))

    def sizes(self) -> dict[str, int]:
        with _storage_errors(f"list {self._path}"), os.scandir(self._path) as entries:
            found = {e.name: _size(e) for e in entries if _is_file(e) and _is_text(e)}
        return {name: size for name, size in found.items() if size is not None}

    @contextlib.contextmanager
    def create(
        self,
        name: str,
        expected_size: int | None = None,  # noqa: ARG002 - a file grows as it comes.
    ) -> Iterator[LocalPendingFile]:
        pending = LocalPendingFile(self._path, name)
        try:
            yield pending
        finally:
            pending.discard()

    def size(self, name: str) -> int:
        path = self._path / name
        with _storage_errors(f"look at {path}"):
            return path.stat().st_size

    def version(self, name: str) -> str:
        path = self._path / name
        with _storage_errors(f"look at {path}"):
            found = path.lstat()
        if not stat.S_ISREG(found.st_mode):
            raise ResourceNotFound(f"Could not look at {path}: it is no regular file.")
        # Hashed, since an inode's number is nothing to tell strangers.
        told = f"{found.st_size} {found.st_mtime_ns} {found.st_ino}"
        return hashlib.sha256(told.encode()).hexdigest()[:32]

    def modified_at(self, name: str) -> datetime:
        path = self._path / name
        with _storage_errors(f"look at {path}"):
            return datetime.fromtimestamp(path.stat().st_mtime, timezone.utc)

    def read(self, name: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        path = self._path / name
        with _storage_errors(f"read {path}"), path.open("rb", buffering=0) as file:
            if sys.platform == "linux" and not offset and length is None:
                # The page cache holds what was written; a proof wants what the disk holds.
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            file.seek(offset)
            left = sys.maxsize if length is None else length
            while chunk := file.read(min(READ_BYTES, left)):
                left -= len(chunk)
                yield chunk

    def replace(self, name: str, data: bytes) -> None:
        with self.create(name) as file:
            file.write(data)
            file.commit(replace=True)

    def delete(self, name: str) -> None:
        with _storage_errors(f"remove {self._path / name}"):
            (self._path / name).unlink(missing_ok=True)
            _flush_directory(self._path)

    def append(self, name: str, text: str) -> None:
        path = self._path / name
        with _storage_errors(f"append to {path}"):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                # O_APPEND alone would let a write that is cut short be finished after another's.
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                _append_whole(descriptor, text.encode())
            finally:
                os.close(descriptor)

    def claim(self, name: str, owner: Mapping[str, str | int]) -> LocalClaim | None:
        with _storage_errors(f"create the run marker {self._path / name}"):
            return LocalClaim.create(self._path / name, owner)

    def claim_is_alive(self, name: str) -> bool:
        with _storage_errors(f"look at the run marker {self._path / name}"):
            return is_alive(self._path / name)

    def remove_dead_claim(self, name: str) -> None:
        with _storage_errors(f"remove the run marker {self._path / name}"):
            remove_if_dead(self._path / name)


class LocalPendingFile:
    """`{name}.tmp`, flushed and renamed by `commit`, removed by `discard` before that."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._final = directory / name
        self._pending = directory / (name + _PENDING_SUFFIX)
        self._written = 0
        self._descriptor: int | None = None
        with _storage_errors(f"create {self._pending}"):
            self._descriptor = os.open(self._pending, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)

    def write(self, data: bytes) -> None:
        with _storage_errors(f"write {self._pending}"):
            _write_all(self._open_descriptor(), data)
        self._written += len(data)

    def commit(self, *, replace: bool = False) -> None:
        with _storage_errors(f"finish {self._final}"):
            descriptor = self._open_descriptor()
            os.fsync(descriptor)
            size = os.fstat(descriptor).st_size
            self._close()
            if size != self._written:
                raise IntegrityError(
                    f"{self._pending} has {size} bytes but {self._written} were written to it. "
                    "Something else wrote to it, or the file system lost data: check the disk."
                )
            if not replace and self._final.exists():
                raise StorageError(f"{self._final} exists already; it is not overwritten.")
            self._pending.rename(self._final)
            _flush_directory(self._directory)

    def discard(self) -> None:
        """Close, and remove what was not committed."""
        with contextlib.suppress(OSError):
            self._close()
        with contextlib.suppress(OSError):
            # A leftover that can't be removed now is removed by the next run; the error that led
            # here matters more.
            self._pending.unlink(missing_ok=True)

    def _open_descriptor(self) -> int:
        if self._descriptor is None:
            raise StorageError(f"{self._pending} is closed already.")
        return self._descriptor

    def _close(self) -> None:
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return not entry.is_dir()
    except OSError:
        return True  # A link that can't be followed; who reads it is told so.


def _size(entry: os.DirEntry[str]) -> int | None:
    """None if the file has been removed since it was listed."""
    for follows_links in (True, False):
        try:
            return entry.stat(follow_symlinks=follows_links).st_size
        except OSError:
            continue  # Of a link that can't be followed, the link's own size.
    return None


def _is_text(entry: os.DirEntry[str]) -> bool:
    """Whether its name is UTF-8, as all of ours are; another can't be put into any document."""
    return entry.name.encode(errors="ignore").decode() == entry.name


def _make_directory(path: Path, *, parents: bool) -> None:
    """Make `path` durable as a name too: else a power failure takes it with all that lies in it."""
    if path.is_dir():
        return
    if parents:
        _make_directory(path.parent, parents=True)
    path.mkdir(exist_ok=True)
    _flush_directory(path.parent)


def _remove_empty_directories(paths: Sequence[Path]) -> None:
    """Remove those that are there, the innermost first; one that holds anything stays.

    Raises:
        StorageError: an empty one can't be removed.
    """
    for path in paths:
        with _storage_errors(f"remove the directory {path}"):
            try:
                path.rmdir()
            except OSError as error:
                if error.errno not in _NOTHING_TO_REMOVE:
                    raise


def _append_whole(descriptor: int, data: bytes) -> None:
    """Append all of `data` or, when the disk is full, nothing; the caller holds the file's lock."""
    size = os.fstat(descriptor).st_size
    try:
        _write_all(descriptor, data)
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, size)
        raise


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _flush_directory(path: Path) -> None:
    """Make a directory's entries durable: a rename alone may be lost with the power."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _storage_errors(action: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise ResourceNotFound(f"Could not {action}: it does not exist.") from error
    except OSError as error:
        raise StorageError(f"Could not {action}: {error.strerror}. {_advice(error)}") from error


def _advice(error: OSError) -> str:
    if error.errno in _NO_SPACE:
        return "Free space there, or set VECTOR_BACKUP_ROOT to a place with more."
    if error.errno in _NOT_WRITABLE:
        return "Let this process's user write there, or set VECTOR_BACKUP_ROOT to another place."
    return "Check that the disk or mount works."
