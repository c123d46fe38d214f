"""The frame of every run: backup, restore, verification, prune, adoption.

Its steps are methods that a job calls in order. A step that fails raises, and the first error is
kept, so that `finish` can report it. `close` may come at any time and after any failure.
"""

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from typing import Generic, Protocol, TypeVar

from vector_backup_pipeline.engine import report
from vector_backup_pipeline.engine.cancellation import as_run_error
from vector_backup_pipeline.engine.errors import BackupError, InvalidParams, RunCancelled
from vector_backup_pipeline.engine.file_names import LOG_NAME
from vector_backup_pipeline.engine.results import RunResult
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.storage.root import BackupRoot


class RunPart(Protocol):
    """A location of a prune or an adoption, a set of a verification."""

    errors: list[BackupError]


_P = TypeVar("_P", bound=RunPart)
_R = TypeVar("_R", bound=RunResult)
_T = TypeVar("_T")


def made(value: _T | None) -> _T:
    """`value`, which an earlier step has made."""
    if value is None:
        raise BackupError("The steps of this run were not called in their order.")
    return value


def append_to_log(directory: BackupDirectory, section: str, notices: list[str]) -> None:
    """Append a section if possible: the directory may be read-only."""
    try:
        directory.append(LOG_NAME, section)
    except BackupError as error:
        notices.append(f"The log was not written: {error.message}")


class EngineRun(ABC, Generic[_R]):
    """`canceled_by` says who canceled the run, as far as known, for the log."""

    def __init__(self, root: BackupRoot, run_id: str) -> None:
        self.canceled_by: str | None = None
        self.notices: list[str] = []
        self._root = root
        self._run_id = run_id
        self._began_at = datetime.now(timezone.utc)
        self._started = time.monotonic()
        self._own_error: BackupError | None = None
        self._result: _R | None = None
        # Releases the run's markers.
        self._claims = contextlib.ExitStack()

    @property
    def error(self) -> BackupError | None:
        """The error that the run failed with."""
        return self._own_error

    def finish(self) -> _R:
        """End the run, write its log, and return the result. Once.

        Raises:
            InvalidParams: a step of the job was left out.
            BackupError: what `_end` raises.
        """
        if self._result is None:
            failure: Exception | None = None
            if self.error is None and (left_out := self._left_out()):
                failure = self._own_error = InvalidParams(
                    f"{left_out}: a step of the job was left out. Launch the whole job."
                )
            try:
                self._end()
            except Exception as error:  # noqa: BLE001 - raised below
                failure = failure or error
            self._result = self._make_result()
            if failure is not None:
                raise failure
        return self._result

    def close(self) -> _R:
        """Close everything and write the log, even after an error."""
        try:
            if self._result is None:
                if self.error is None and self._left_out():
                    self._own_error = RunCancelled()
                with contextlib.suppress(BackupError):  # Kept; the result reports it.
                    self.finish()
        finally:
            self._release()
        return self._result or self._make_result()

    def _left_out(self) -> str | None:
        """The step that was left out, as the beginning of a sentence; None if there is none."""
        return None

    @abstractmethod
    def _end(self) -> None:
        """Write the manifest and the log."""

    @abstractmethod
    def _make_result(self) -> _R:
        """The result as of now."""

    def _release(self) -> None:
        """End every connection, then release the markers; may be called again."""
        self._claims.close()

    @contextlib.contextmanager
    def _remembering(self) -> Iterator[None]:
        """Keep the first error of the run."""
        try:
            yield
        except BaseException as cause:
            self._own_error = self._own_error or self._kept(cause)
            raise

    def _kept(self, cause: BaseException) -> BackupError:
        """The error to keep. It comes into results, logs and manifests, which are not encrypted."""
        error = as_run_error(cause)
        return error.without_rows or error if self._root.is_encrypted else error

    def _section(self, title: str, lines: Iterable[str], outcome: str | None = None) -> str:
        """The run's section of a log; `outcome` by default from `error`."""
        outcome = outcome or report.outcome(self.error, self.canceled_by)
        return report.section(title, self._local(self._began_at), outcome, lines)

    def _common_fields(self, errors: list[str]) -> RunResult:
        """The fields that all results have, as of now."""
        return RunResult(
            notices=list(self.notices),
            errors=errors,
            duration=round(time.monotonic() - self._started, 3),
            timestamp=self._local(self._began_at),
        )

    def _local(self, moment: datetime) -> datetime:
        return moment.astimezone(self._root.timestamps.timezone).replace(microsecond=0)


class RunInParts(EngineRun[_R], Generic[_R, _P]):
    """A run whose parts are processed one by one; one that fails does not stop the others."""

    def __init__(self, root: BackupRoot, run_id: str) -> None:
        super().__init__(root, run_id)
        self.parts: dict[str, _P] = {}

    @property
    def error(self) -> BackupError | None:
        """The run's own error, otherwise the first one of a part."""
        of_parts = (error for part in self.parts.values() for error in part.errors)
        return self._own_error or next(of_parts, None)

    def _append_to_log(
        self, directory: BackupDirectory, title: str, lines: Iterable[str], *, failed: bool
    ) -> None:
        """Append the run's section to the log of a directory. `failed`: whether something failed
        there."""
        outcome = "FAILED" if failed else "SUCCESS"
        if isinstance(self.error, RunCancelled):
            outcome = report.outcome(self.error, self.canceled_by)
        section = self._section(title, [f"Run: {self._run_id}", *lines], outcome)
        append_to_log(directory, section, self.notices)

    def check(self, key: str) -> None:
        for error in self.parts[key].errors:
            raise error
