"""The storage: each thing that a backup, its restore and its removal do there, done once.

The files are the check's own, `.vector_backup_check_…`, which no catalog takes for a backup's. They
are removed whatever happens; those of a check that was killed by the next one.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from vector_backup_pipeline.engine.checkup.clock import ahead_of
from vector_backup_pipeline.engine.checkup.finding import (
    Finding,
    failed_with,
    ok,
    skipped,
)
from vector_backup_pipeline.engine.checkup.plan import CheckPlan
from vector_backup_pipeline.engine.errors import BackupError, IntegrityError, StorageError
from vector_backup_pipeline.engine.file_names import PENDING_SUFFIX
from vector_backup_pipeline.engine.results import readable_size
from vector_backup_pipeline.engine.storage.contract import BackupDirectory, BackupRoot

_PREFIX = ".vector_backup_check_"
_OURS = re.compile(re.escape(_PREFIX) + r"(\d+)_[0-9a-f]{8}_\w+(\.tmp)?")
# No check takes as long, so what is older was left by one that was killed.
_LEFT_AFTER_SECONDS = 3600
_CONTENT = b"id,document\n" + b"1,a row of a check\n" * 100
_REPLACEMENT = b"replaced\n"
_RANGE = slice(12, 31)
# Enough to tell a network mount from a disk, and written in a moment by either.
_SPEED_BYTES = 8 << 20
_CHUNK = 1 << 20
_DISTRUST = "Do not trust this storage with backups: check the disk, mount or bucket."


@dataclass(frozen=True)
class StorageReport:
    """`clock_ahead` is how far the storage's clock is before this machine's, None where no file
    could be written to tell it."""

    findings: list[Finding]
    clock_ahead: timedelta | None = None


def check_storage(plan: CheckPlan) -> StorageReport:
    """Try the directory where a backup would go, made for it if it is missing.

    Raises:
        LeftBehind: the check was interrupted, and what it wrote could not be removed.
    """
    if plan.root is None:
        return StorageReport([skipped("storage", "directory", "the settings are wrong")])
    return _Trial(plan).run(plan.root)


class LeftBehind(StorageError):
    """What a check wrote could not be removed."""

    def __init__(self, location: str, names: str, error: BackupError) -> None:
        super().__init__(
            f"What the check wrote in {location} could not be removed: {error.message} Remove "
            f"{names}* there by hand."
        )


class _Trial:
    """One directory under trial. Whatever it may write has its name before it is written."""

    def __init__(self, plan: CheckPlan) -> None:
        self._plan = plan
        self._token = f"{_PREFIX}{int(plan.now().timestamp())}_{secrets.token_hex(4)}"
        self._small, self._large = f"{self._token}_file", f"{self._token}_speed"
        self._claimed = f"{self._token}_run"
        self._findings: list[Finding] = []
        self._ahead: timedelta | None = None
        self._has_written = False

    def run(self, root: BackupRoot) -> StorageReport:
        try:
            is_there = root.find(self._plan.task_id) is not None
            with root.open_for_trial(self._plan.task_id) as directory:
                made = "is there" if is_there else "is not there yet and can be made"
                self._tell("directory", f"{directory.location} {made}")
                self._try_and_remove(directory)
        except LeftBehind:
            raise
        except BackupError as error:
            self._findings.append(failed_with("storage", "directory", error))
        return StorageReport(self._findings, self._ahead)

    def _try_and_remove(self, directory: BackupDirectory) -> None:
        """Whatever happens, nothing of the check stays; what can't be removed is named."""
        try:
            self._try(directory)
        except BaseException as interrupt:
            left = self._remove(directory)
            if left is not None:
                raise left from interrupt
            raise
        left = self._remove(directory)
        # Where nothing could be written, nothing is left, though that can't be seen either.
        if left is not None and self._has_written:
            self._findings.append(failed_with("storage", "left behind", left))

    def _remove(self, directory: BackupDirectory) -> LeftBehind | None:
        left: LeftBehind | None = None
        for name in (self._small, self._claimed, self._large):
            for each in (name, name + PENDING_SUFFIX):
                try:
                    directory.delete(each)
                except BackupError as error:
                    left = left or LeftBehind(directory.location, self._token, error)
        return left

    def _try(self, directory: BackupDirectory) -> None:
        with contextlib.suppress(BackupError):
            # What is wrong with the storage is told by what follows.
            _remove_leftovers(directory, self._plan.now().timestamp())
        put = self._step("put", lambda: self._put(directory))
        if put:
            self._step("list", lambda: self._list(directory))
            self._step("get", lambda: self._get(directory))
            self._step("replace", lambda: self._replace(directory))
            self._step("delete", lambda: self._delete(directory))
        else:
            for name in ("list", "get", "replace", "delete"):
                self._findings.append(skipped("storage", name, "nothing could be put"))
        self._step("run marker", lambda: self._claim(directory))
        if put:
            self._step("speed", lambda: self._measure(directory))

    def _step(self, name: str, attempt: Callable[[], str]) -> bool:
        """Whether it worked; what happened is a finding either way."""
        try:
            self._tell(name, attempt())
        except BackupError as error:
            self._findings.append(failed_with("storage", name, error))
            return False
        return True

    def _tell(self, name: str, message: str) -> None:
        self._findings.append(ok("storage", name, message))

    def _put(self, directory: BackupDirectory) -> str:
        before = self._plan.now()
        _write(directory, self._small, [_CONTENT])
        self._has_written = True
        written = directory.modified_at(self._small)
        self._ahead = ahead_of(written, before, self._plan.now())
        size = directory.size(self._small)
        if size != len(_CONTENT):
            raise IntegrityError(
                f"A file of {len(_CONTENT)} bytes was put and has {size} bytes now. {_DISTRUST}"
            )
        return "a file can be written whole, and has its size"

    def _list(self, directory: BackupDirectory) -> str:
        if self._small not in directory.names():
            raise StorageError(
                f"A file that was just written is not in the list of {directory.location}. "
                "A store must list what it holds at once, or backups are overlooked: use one that "
                "does."
            )
        return "it is listed"

    def _get(self, directory: BackupDirectory) -> str:
        _expect(_CONTENT, directory.read(self._small))
        length = _RANGE.stop - _RANGE.start
        _expect(_CONTENT[_RANGE], directory.read(self._small, _RANGE.start, length))
        return "it can be read whole and in part, and is what was written"

    def _replace(self, directory: BackupDirectory) -> str:
        directory.replace(self._small, _REPLACEMENT)
        _expect(_REPLACEMENT, directory.read(self._small))
        return "it can be replaced"

    def _delete(self, directory: BackupDirectory) -> str:
        directory.delete(self._small)
        if self._small in directory.names():
            raise StorageError(
                f"A file that was deleted is still in the list of {directory.location}. Retention "
                "would count what is gone: use a store that lists what it holds."
            )
        return "it can be deleted, and is gone from the list"

    def _claim(self, directory: BackupDirectory) -> str:
        owner: dict[str, str | int] = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "run_id": "check",
        }
        claim = directory.claim(self._claimed, owner)
        if claim is None:
            raise StorageError(
                f"The run marker {self._claimed} exists already, though its name was never used. "
                "Run the check again."
            )
        self._has_written = True
        try:
            second = directory.claim(self._claimed, owner)
            if second is not None:
                second.release()
                raise StorageError(
                    "The storage gave one run marker to two runs. Two backups at once could "
                    "overwrite each other: use a store that can create a file only if it is new."
                )
            if not directory.claim_is_alive(self._claimed):
                raise StorageError(
                    "The lock on a run marker is not seen, so a live run would be taken for dead. "
                    "Mount the directory with file locks, or use another one."
                )
        finally:
            claim.release()
        if self._claimed in directory.names():
            raise StorageError(f"The run marker {self._claimed} was not removed. {_DISTRUST}")
        return "created only once, liveness detected, and removed"

    def _measure(self, directory: BackupDirectory) -> str:
        # Not compressible, and the same bytes for each MiB: making them takes no time.
        chunk = os.urandom(_CHUNK)
        started = time.perf_counter()
        _write(directory, self._large, [chunk] * (_SPEED_BYTES // _CHUNK))
        written = time.perf_counter()
        read = sum(len(part) for part in directory.read(self._large))
        ended = time.perf_counter()
        if read != _SPEED_BYTES:
            raise IntegrityError(f"Of {_SPEED_BYTES} bytes {read} came back. {_DISTRUST}")
        rates = [_SPEED_BYTES / max(each, 1e-6) for each in (written - started, ended - written)]
        writing, reading = (readable_size(int(rate)) for rate in rates)
        return f"{readable_size(_SPEED_BYTES)} were written at {writing}/s, read at {reading}/s"


def _remove_leftovers(directory: BackupDirectory, now: float) -> None:
    """Remove what checks that were killed have left; `now` in seconds since 1970.

    Raises:
        StorageError: the directory can't be listed, or a file not be removed.
    """
    for name in directory.names():
        match = _OURS.fullmatch(name)
        if match is not None and now - int(match.group(1)) > _LEFT_AFTER_SECONDS:
            directory.delete(name)


def _write(directory: BackupDirectory, name: str, chunks: list[bytes]) -> None:
    with directory.create(name, sum(map(len, chunks))) as file:
        for chunk in chunks:
            file.write(chunk)
        file.commit()


def _expect(expected: bytes, parts: Iterator[bytes]) -> None:
    found = b"".join(parts)
    if found != expected:
        raise IntegrityError(
            f"{len(found)} bytes came back that are not the {len(expected)} that were written. "
            f"{_DISTRUST}"
        )
