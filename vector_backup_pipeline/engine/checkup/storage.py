"""The storage side of the dry run: a run's marker, and a file written, listed, read and deleted.

The marker and the file have the names that a backup would give them. If the check is killed, the
next run cleans up as it does after a killed backup.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Generator
from datetime import datetime, timedelta, timezone

from vector_backup_pipeline.engine.backup.run_marker import claim_timestamp
from vector_backup_pipeline.engine.checkup.finding import Finding, from_error, ok
from vector_backup_pipeline.engine.errors import BackupError, StorageError
from vector_backup_pipeline.engine.file_names import data_file_name, is_marker_of
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.engine.stored_files import check_stored_file
from vector_backup_pipeline.engine.timestamps import TimestampFormat

_CONTENT = b"id,document\n" + b"1,written by vector-backup check\n" * 100
_WRONG_LISTING = "Use another storage: a backup depends on complete and current listings."


def check_storage(
    task_id: str | None, root: BackupRoot, timestamps: TimestampFormat
) -> Generator[Finding, None, timedelta | None]:
    """Check the directory of the next backup, which is created if missing and then removed again.
    Returns how far the storage's clock is ahead of this machine's, None if unknown."""
    try:
        with root.open_for_trial(task_id) as directory, contextlib.ExitStack() as cleanup:
            yield ok("storage", "directory", directory.location)
            probe = _Probe(directory, timestamps, cleanup)
            for name, step in probe.steps.items():
                try:
                    message = step()
                except BackupError as error:
                    yield from_error("storage", name, error)
                    break
                yield ok("storage", name, message)
    except BackupError as error:
        yield from_error("storage", "directory", error)
        return None
    return probe.clock_offset


class _Probe:
    """The steps in order. `cleanup` reverts them, also after an interrupt."""

    def __init__(
        self,
        directory: BackupDirectory,
        timestamps: TimestampFormat,
        cleanup: contextlib.ExitStack,
    ) -> None:
        self._directory = directory
        self._timestamps = timestamps
        self._cleanup = cleanup
        self._name = ""
        self.clock_offset: timedelta | None = None
        self.steps: dict[str, Callable[[], str]] = {
            "run marker": self._claim,
            "put": self._put,
            "list": self._list,
            "get": self._get,
            "delete": self._delete,
        }

    def _claim(self) -> str:
        stamp, claim = claim_timestamp(self._directory, self._timestamps, run_id="check")
        self._cleanup.callback(claim.release)
        markers = [name for name in self._directory.names() if is_marker_of(name, stamp)]
        if not any(map(self._directory.claim_is_alive, markers)):
            raise StorageError(
                f"The run marker just created in {self._directory.location} is not recognized as "
                "that of a live run, so another run could remove the files of a live one.",
                advice="Use a file system with working file locks, or another directory.",
            )
        self._name = data_file_name("public", "vector_backup_check", stamp, "csv")
        return f"created; a backup made now would have the timestamp {stamp}"

    def _put(self) -> str:
        self._cleanup.callback(self._delete_quietly)
        with self._directory.create(self._name, len(_CONTENT)) as file:
            file.write(_CONTENT)
            file.commit()
        written_at = self._directory.stat(self._name).modified_at
        self.clock_offset = written_at - datetime.now(timezone.utc)
        return "a file was written"

    def _list(self) -> str:
        if self._name not in self._directory.names():
            raise StorageError(
                f"{self._name} was written, but is not listed in {self._directory.location}.",
                advice=_WRONG_LISTING,
            )
        return "the file is listed"

    def _get(self) -> str:
        sha256 = hashlib.sha256(_CONTENT).hexdigest()
        check_stored_file(self._directory, self._name, len(_CONTENT), sha256)
        return "the file was read back and compared"

    def _delete(self) -> str:
        self._directory.delete(self._name)
        if self._name in self._directory.names():
            raise StorageError(
                f"{self._name} was deleted, but is still listed in {self._directory.location}.",
                advice=_WRONG_LISTING,
            )
        return "the file was deleted"

    def _delete_quietly(self) -> None:
        """Delete the file after an interrupt, or after an error that has been reported."""
        with contextlib.suppress(BackupError):
            self._directory.delete(self._name)
