"""One verification from beginning to end, set by set.

    find ─▶ verify (each set: files, then the drill) ─▶ finish ─▶ close

A set that fails does not stop the others. A verdict is kept beside each set that was judged; a
set that could not be read, or a restore test that could not run, is an error of the run. A set that
was removed before its turn is skipped with a notice.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from vector_backup_pipeline import __version__
from vector_backup_pipeline.engine.cancellation import as_run_error
from vector_backup_pipeline.engine.catalog.claims import hold_while_reading
from vector_backup_pipeline.engine.catalog.contents import (
    BackupSet,
    Contents,
    DamagedSet,
    is_in_future,
    read_contents,
)
from vector_backup_pipeline.engine.catalog.locations import check_root, find_directories
from vector_backup_pipeline.engine.catalog.sources import SourceDatabase, source_named
from vector_backup_pipeline.engine.catalog.verdicts import write_verdict
from vector_backup_pipeline.engine.errors import (
    BackupError,
    InvalidParams,
    ResourceNotFound,
    RunCancelled,
    StorageError,
)
from vector_backup_pipeline.engine.file_names import (
    LOG_NAME,
    manifest_name,
    stamp_of_data_file,
    tombstone_name,
)
from vector_backup_pipeline.engine.manifest import OLDER_SYSTEM
from vector_backup_pipeline.engine.report import canceled
from vector_backup_pipeline.engine.results import SetVerdict, VerifyResult, error_line
from vector_backup_pipeline.engine.storage.contract import BackupDirectory, BackupRoot
from vector_backup_pipeline.engine.timestamps import TimestampFormat
from vector_backup_pipeline.engine.verification.drill import DrilledSet, OpenScratch, drill_set
from vector_backup_pipeline.engine.verification.files import CheckedFiles, check_files
from vector_backup_pipeline.engine.verification.report import verify_section
from vector_backup_pipeline.parameters.types import LATEST
from vector_backup_pipeline.parameters.verify import VerifyParameters

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SetToVerify:
    """A set that is about to be verified; `key` names it within the run."""

    key: str
    directory: str
    timestamp: str


class VerifyRun:
    """The state of one verification. `verify` is called once a set."""

    def __init__(
        self,
        request: VerifyParameters,
        root: BackupRoot,
        timestamps: TimestampFormat,
        open_scratch: OpenScratch,
        *,
        lock_timeout: float,
        run_id: str,
    ) -> None:
        self.request = request
        self._root = root
        self._timestamps = timestamps
        self._open_scratch = open_scratch
        self._lock_timeout = lock_timeout
        self._run_id = run_id
        # Who canceled the run, as far as known; for the log.
        self.canceled_by: str | None = None
        self._started = time.monotonic()
        self._began_at = datetime.now(timezone.utc)
        self._sets: dict[str, _FoundSet] = {}
        self._verdicts: dict[str, SetVerdict] = {}
        self._gone: set[str] = set()
        self._set_errors: dict[str, list[BackupError]] = {}
        self._run_error: BackupError | None = None
        self._notices: list[str] = []
        self._result: VerifyResult | None = None

    @property
    def error(self) -> BackupError | None:
        """What the run failed of: its own error, else the first one of a set."""
        of_sets = (error for errors in self._set_errors.values() for error in errors)
        return self._run_error or next(of_sets, None)

    def error_of(self, key: str) -> BackupError:
        """What a set that did not pass failed of first."""
        return self._set_errors[key][0]

    def find(self) -> list[SetToVerify]:
        """The sets that are asked for, oldest first in each place.

        Raises:
            InvalidParams: the timestamp is malformed.
            ResourceNotFound: the root is not there, or a place or set that was named.
        """
        try:
            self._check_timestamp()
            check_root(self._root)
            found = [self._sets_in(directory) for directory in self._directories()]
            for each in self._wanted(found):
                self._sets[f"set_{len(self._sets) + 1}"] = each
            if self.request.timestamp is not None and not self._sets:
                raise ResourceNotFound(
                    f"There is no set {self.request.timestamp} to verify. vector-backup list shows "
                    "what is there."
                )
            if not self._sets:
                self._notices.append("There is nothing to verify: no backup set was found.")
        except BaseException as cause:
            self._run_error = as_run_error(cause)
            raise
        return [
            SetToVerify(key, each.directory.location, each.stamp)
            for key, each in self._sets.items()
        ]

    def _check_timestamp(self) -> None:
        wanted = self.request.timestamp
        if wanted not in (None, LATEST) and not self._timestamps.is_stamp(wanted):
            raise InvalidParams(
                f"The timestamp {wanted!r} is not valid: give that of a backup set, such as "
                f"{self._timestamps.stamp(self._timestamps.now())}, or {LATEST}; or none, for "
                "every set."
            )

    def _directories(self) -> list[BackupDirectory]:
        path, task_id = self.request.backup_path, self.request.task_id
        if self.request.has_location:
            found = self._root.find_path(path) if path else self._root.find(task_id)
            if found is None:
                raise ResourceNotFound(
                    f"There is no backup directory {path or task_id} under {self._root.location}. "
                    "vector-backup list shows what is there."
                )
            return [found]
        return [directory for _, directory in find_directories(self._root)]

    def _sets_in(self, directory: BackupDirectory) -> list[_FoundSet]:
        contents = read_contents(directory, self._timestamps)
        return sorted((_found(contents, each) for each in contents.sets()), key=_age)

    def _wanted(self, found: Sequence[list[_FoundSet]]) -> Iterator[_FoundSet]:
        """Of the sets of each location, those that are asked for. A damaged set may be of any
        source database."""
        timestamp, text = self.request.timestamp, self.request.source_database
        source: SourceDatabase | None = None
        if text is not None:
            sources = [each.source for sets in found for each in sets if each.source is not None]
            source = source_named(text, sources, self._root.location)
        for sets in found:
            of_source = [s for s in sets if source is None or s.source in (None, source)]
            if timestamp == LATEST:
                of_source = _latest(of_source)
                self._notices += _future_notices(of_source, self._timestamps.now())
            yield from (s for s in of_source if timestamp in (None, LATEST, s.stamp))

    def verify(self, key: str) -> SetVerdict | None:
        """Verify one set and keep the verdict beside it; None if the set has been removed. A set
        that fails raises nothing."""
        found = self._sets[key]
        try:
            reading = hold_while_reading(
                found.directory, self._timestamps, found.stamp, self._run_id, self._notices
            )
        except ResourceNotFound:
            self._skip(key, found)
            return None
        try:
            return self._verify(key, found)
        finally:
            if reading is not None:
                reading.release()

    def _verify(self, key: str, found: _FoundSet) -> SetVerdict | None:
        checked, drilled = CheckedFiles(), None
        try:
            backup = found.contents.backup_set(found.stamp)
            if backup is None:
                raise StorageError(
                    f"The manifest of {found.stamp} in {found.directory.location} is gone, and its "
                    "data files are still there. Look for what removed it."
                )
            checked = check_files(found.directory, backup)
            drilled = None if checked.errors else self._drill(found.directory, backup, checked)
        except BackupError as error:
            checked.failed(error)
        # Without a marker nothing keeps a prune from removing the set while it is being read.
        has_failed = checked.errors or (drilled is not None and drilled.error is not None)
        if has_failed and _is_gone(found):
            self._skip(key, found)
            return None
        verdict = self._judge(key, checked, drilled)
        passed = "passed" if verdict.passed else "failed"
        _log.info("Verified %s in %s: %s", found.stamp, found.directory.location, passed)
        if verdict.files_passed is not None:
            self._keep(found.directory, verdict)
        return verdict

    def _skip(self, key: str, found: _FoundSet) -> None:
        self._gone.add(key)
        self._notices.append(
            f"The set {found.stamp} in {found.directory.location} was removed before it was "
            "verified, and was skipped."
        )

    def _judge(self, key: str, checked: CheckedFiles, drilled: DrilledSet | None) -> SetVerdict:
        found = self._sets[key]
        errors = list(checked.errors)
        if drilled is not None and drilled.error is not None:
            errors.append(drilled.error)
        self._set_errors[key] = errors
        verdict = SetVerdict(
            backup_path=found.directory.location,
            timestamp=found.stamp,
            backup_date=None if found.is_damaged else self._local(found.created_at),
            complete=found.complete,
            files_passed=checked.passed,
            passed=not errors,
            verified_at=datetime.now(timezone.utc).replace(microsecond=0),
            tool_version=__version__,
            tables=checked.tables,
            drill=drilled.drill if drilled else None,
            errors=[*checked.lines, *_drill_lines(drilled, found.stamp)],
        )
        self._verdicts[key] = verdict
        return verdict

    def _drill(
        self, directory: BackupDirectory, backup: BackupSet, checked: CheckedFiles
    ) -> DrilledSet | None:
        if not self.request.drill or not checked.tables or isinstance(backup, DamagedSet):
            return None
        if backup.manifest.origin == OLDER_SYSTEM:
            self._notices.append(
                f"{backup.stamp} was adopted from the older system, which kept no table "
                "definitions: its files were verified, and no restore test was made."
            )
            return None
        return drill_set(
            self.request,
            self._root,
            self._timestamps,
            self._open_scratch,
            path=directory.location,
            backup=backup,
            tables=tuple(checked.tables),
            lock_timeout=self._lock_timeout,
        )

    def _keep(self, directory: BackupDirectory, verdict: SetVerdict) -> None:
        try:
            write_verdict(directory, verdict)
        except BackupError as error:
            # A backup may well lie where nobody can write; the verdict is no worse for it.
            self._notices.append(
                f"The verdict on {verdict.timestamp} was not kept: {error.message}"
            )

    def finish(self) -> VerifyResult:
        """Write the log of each place, and tell the result. Once.

        Raises:
            InvalidParams: steps were left out, and so not every set was verified.
        """
        if self._result is not None:
            return self._result
        left_out = self._left_out() if self._run_error is None else None
        self._run_error = self._run_error or left_out
        self._append_to_logs()
        self._result = self._tell_result()
        if left_out is not None:
            raise left_out
        return self._result

    def _left_out(self) -> BackupError | None:
        waiting = [self._sets[key].stamp for key in self._waiting()]
        if not waiting:
            return None
        return InvalidParams(
            f"Not verified: {', '.join(waiting)}. A step of the job was left out. Launch the whole "
            "job."
        )

    def _waiting(self) -> list[str]:
        return [key for key in self._sets if key not in self._verdicts and key not in self._gone]

    def close(self) -> VerifyResult:
        """Leave nothing untold, whatever happened before."""
        if self._result is None and self._waiting() and self._run_error is None:
            self._run_error = RunCancelled()
        return self.finish()

    def _append_to_logs(self) -> None:
        places = {each.directory.location: each.directory for each in self._sets.values()}
        for location, directory in places.items():
            verdicts = [v for v in self._verdicts.values() if v.backup_path == location]
            section = verify_section(
                verdicts,
                self._local(self._began_at),
                run_id=self._run_id,
                canceled=canceled(self._run_error, self.canceled_by),
            )
            try:
                directory.append(LOG_NAME, section)
            except BackupError as error:
                self._notices.append(f"The log was not written: {error.message}")

    def _tell_result(self) -> VerifyResult:
        verdicts = list(self._verdicts.values())
        errors = [f"{each.timestamp}: {line}" for each in verdicts for line in each.errors]
        if self._run_error is not None:
            errors.insert(0, error_line(self._run_error))
        return VerifyResult(
            verified=not errors,
            sets=verdicts,
            notices=self._notices,
            errors=errors,
            duration=round(time.monotonic() - self._started, 3),
            timestamp=self._local(self._began_at),
        )

    def _local(self, moment: datetime) -> datetime:
        return moment.astimezone(self._timestamps.timezone).replace(microsecond=0)


@dataclass(frozen=True)
class _FoundSet:
    """What has to be known of a set until its turn: its manifest may be many MB, so not that."""

    contents: Contents
    stamp: str
    created_at: datetime
    complete: bool
    source: SourceDatabase | None

    @property
    def is_damaged(self) -> bool:
        return self.source is None

    @property
    def directory(self) -> BackupDirectory:
        return self.contents.directory


def _found(contents: Contents, backup: BackupSet) -> _FoundSet:
    source = None if isinstance(backup, DamagedSet) else backup.source
    return _FoundSet(contents, backup.stamp, backup.created_at, backup.complete, source)


def _age(found: _FoundSet) -> tuple[datetime, str]:
    return found.created_at, found.stamp


def _is_gone(found: _FoundSet) -> bool:
    """Whether a prune is removing the set, or nothing of it is left."""
    try:
        names = found.directory.names()
    except BackupError:
        return False  # The errors so far say more.
    stamp, timestamps = found.stamp, found.contents.timestamps
    if tombstone_name(stamp) in names:
        return True
    return manifest_name(stamp) not in names and not any(
        stamp_of_data_file(name, timestamps) == stamp for name in names
    )


def _latest(sets: Sequence[_FoundSet]) -> list[_FoundSet]:
    """Of the sets of a location, oldest first: the newest complete one of each source database;
    and damaged ones that may have been newer than one of these."""
    newest = {each.source: each for each in sets if each.complete}
    oldest_of_these = min(map(_age, newest.values()), default=None)
    return [
        each
        for each in sets
        if newest.get(each.source) is each
        or (each.is_damaged and (oldest_of_these is None or _age(each) > oldest_of_these))
    ]


def _future_notices(sets: Sequence[_FoundSet], now: datetime) -> Iterator[str]:
    for each in sets:
        if is_in_future(each.created_at, now):
            yield (
                f"The latest set {each.stamp} in {each.directory.location} was created in the "
                "future by this machine's clock: a clock was or is wrong. Sets made since then "
                "may be newer."
            )


def _drill_lines(drilled: DrilledSet | None, stamp: str) -> list[str]:
    if drilled is None or drilled.error is None:
        return []
    if drilled.drill is None:
        return [f"The restore test of {stamp} could not run: {error_line(drilled.error)}"]
    return [f"The restore test of {stamp} failed: {line}" for line in drilled.drill.errors]
