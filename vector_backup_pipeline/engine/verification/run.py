"""One verification from beginning to end, set by set.

    find ─▶ verify (each set: files, then the restore test) ─▶ finish ─▶ close

A set that fails does not stop the others. The verdict on a set is stored with its files. A set that
could not be read, or a restore test that could not run, is an error of the run. A set that was
removed before its turn is skipped with a notice.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone

from vector_backup_pipeline import __version__
from vector_backup_pipeline.engine.catalog.choice import check_timestamp
from vector_backup_pipeline.engine.catalog.claims import claim_reading
from vector_backup_pipeline.engine.catalog.contents import (
    BackupSet,
    Contents,
    DamagedSet,
    ManifestSet,
    future_notices,
    read_contents,
)
from vector_backup_pipeline.engine.catalog.locations import (
    check_root,
    find_directories,
    find_directory,
)
from vector_backup_pipeline.engine.catalog.sources import SourceDatabase, source_named
from vector_backup_pipeline.engine.catalog.stored_sets import (
    StoredSet,
    stored_set,
    stored_sets,
    write_verdict,
)
from vector_backup_pipeline.engine.errors import BackupError, ResourceNotFound, StorageError
from vector_backup_pipeline.engine.file_names import (
    manifest_name,
    stamp_of_data_file,
    tombstone_name,
)
from vector_backup_pipeline.engine.manifest import OLDER_SYSTEM
from vector_backup_pipeline.engine.restore.report import recall_line
from vector_backup_pipeline.engine.results import (
    FailedTable,
    SetVerdict,
    VerifiedChain,
    VerifiedTable,
    VerifyResult,
    error_line,
)
from vector_backup_pipeline.engine.runs import RunInParts
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.engine.verification.drill import DrilledSet, OpenDrillServer, drill_set
from vector_backup_pipeline.engine.verification.files import CheckedFiles, FileErrors, check_files
from vector_backup_pipeline.parameters.types import LATEST
from vector_backup_pipeline.parameters.verify import VerifyParameters

_log = logging.getLogger(__name__)


@dataclass
class SetToVerify:
    """A set of the run. Its manifest may be many MB, so it is read again when it is verified."""

    contents: Contents
    stored: StoredSet
    is_gone: bool = False
    verdict: SetVerdict | None = None
    errors: list[BackupError] = field(default_factory=list)

    @property
    def directory(self) -> BackupDirectory:
        return self.contents.directory

    @property
    def stamp(self) -> str:
        return self.stored.stamp

    @property
    def label(self) -> str:
        return f"{self.stamp} in {self.directory.location}"


class VerifyRun(RunInParts[VerifyResult, SetToVerify]):
    """The state of one verification. `verify` is called once per set."""

    def __init__(
        self,
        request: VerifyParameters,
        root: BackupRoot,
        open_drill_server: OpenDrillServer,
        *,
        lock_timeout: float,
        run_id: str,
    ) -> None:
        super().__init__(root, run_id)
        self.request = request
        self._open_drill_server = open_drill_server
        self._lock_timeout = lock_timeout
        self._file_errors: FileErrors = {}

    def find(self) -> Mapping[str, SetToVerify]:
        """The requested sets by their keys within the run, oldest first in each location.

        Raises:
            InvalidParams: the timestamp is malformed.
            ResourceNotFound: the root, the named location or the named set does not exist.
        """
        with self._remembering():
            check_timestamp(self._root.timestamps, self.request.timestamp)
            check_root(self._root)
            by_location = [self._read_sets(directory) for directory in self._directories()]
            for number, backup_set in enumerate(self._requested(by_location), 1):
                self.parts[f"set_{number}"] = backup_set
            if self.request.timestamp is not None and not self.parts:
                raise ResourceNotFound(
                    f"There is no set {self.request.timestamp} to verify. vector-backup list shows "
                    "the existing ones."
                )
        if not self.parts:
            self.notices.append("There is nothing to verify: no backup set was found.")
        return self.parts

    def _directories(self) -> list[BackupDirectory]:
        path, task_id = self.request.backup_path, self.request.task_id
        if path is None and task_id is None:
            return [directory for _, directory in find_directories(self._root)]
        return [find_directory(self._root, path, task_id)]

    def _read_sets(self, directory: BackupDirectory) -> list[SetToVerify]:
        """The sets of a location, oldest first."""
        contents = read_contents(directory)
        sets = reversed(stored_sets(contents, with_verdicts=False))
        return [SetToVerify(contents, stored) for stored in sets]

    def _requested(self, by_location: Sequence[list[SetToVerify]]) -> Iterator[SetToVerify]:
        """Of the sets of each location, the requested ones. A damaged set may be of any
        source database."""
        timestamp, text = self.request.timestamp, self.request.source_database
        source: SourceDatabase | None = None
        if text is not None:
            known = [s.stored.source for sets in by_location for s in sets if s.stored.source]
            source = source_named(text, known, self._root.location)
        for sets in by_location:
            of_source = [s for s in sets if source is None or s.stored.source in (None, source)]
            if timestamp == LATEST:
                of_source = _latest(of_source)
                now = self._root.timestamps.now()
                for latest in of_source:
                    self.notices += future_notices(latest.label, latest.stored.created_at, now)
            yield from (s for s in of_source if timestamp in (None, LATEST, s.stamp))

    def verify(self, key: str) -> SetVerdict | None:
        """Verify one set and store the verdict with it; None if the set has been removed. A set
        that fails raises nothing."""
        backup_set = self.parts[key]
        directory, stamp = backup_set.directory, backup_set.stamp
        try:
            with claim_reading(directory, stamp, self._run_id, self.notices):
                checked, drilled = self._check(backup_set)
        except ResourceNotFound:
            self._skip(backup_set)
            return None
        backup_set.errors = [error for _, error in checked.errors]
        if drilled is not None and drilled.error is not None:
            backup_set.errors.append(drilled.error)
        # Without a marker, a prune may remove the set while it is being read.
        if backup_set.errors and _was_removed(backup_set):
            self._skip(backup_set)
            return None
        backup_set.verdict = verdict = self._judge(backup_set, checked, drilled)
        _log.info("Verified %s: %s", backup_set.label, "passed" if verdict.passed else "failed")
        if verdict.files_passed is not None:
            self._store(backup_set.directory, verdict)
        # Without a timestamp, the run verifies these sets too.
        if verdict.files_passed is False and self.request.timestamp is not None:
            self._judge_bases(backup_set.contents, checked.chain[1:])
        return verdict

    def _judge_bases(self, contents: Contents, bases: Sequence[ManifestSet]) -> None:
        """Store the verdict on each damaged one, so that no backup builds on it."""
        for backup in bases:
            checked = check_files(contents, backup, self._file_errors)
            errors = [error for _, error in checked.errors]
            base = SetToVerify(contents, stored_set(contents, backup), errors=errors)
            if checked.passed is False and not _was_removed(base):
                self._store(base.directory, self._judge(base, checked, None))

    def _check(self, backup_set: SetToVerify) -> tuple[CheckedFiles, DrilledSet | None]:
        checked = CheckedFiles()
        try:
            backup = backup_set.contents.backup_set(backup_set.stamp)
            if backup is None:
                raise StorageError(
                    f"The manifest of {backup_set.label} is missing, but its data files exist. "
                    "Find out what removed it."
                )
            checked = check_files(backup_set.contents, backup, self._file_errors)
            if not checked.errors:
                return checked, self._drill(backup_set.directory, backup, checked)
        except BackupError as error:
            checked.errors.append((None, error))
        return checked, None

    def _skip(self, backup_set: SetToVerify) -> None:
        backup_set.is_gone, backup_set.errors = True, []
        self.notices.append(
            f"The set {backup_set.label} was removed before it was verified, and was skipped."
        )

    def _judge(
        self, backup_set: SetToVerify, checked: CheckedFiles, drilled: DrilledSet | None
    ) -> SetVerdict:
        stored = backup_set.stored
        file_lines = [error_line(error, table) for table, error in checked.errors]
        return SetVerdict(
            backup_path=backup_set.directory.location,
            timestamp=stored.stamp,
            backup_date=self._local(stored.created_at) if stored.source else None,
            complete=stored.says_complete,
            files_passed=checked.passed,
            passed=not backup_set.errors,
            verified_at=datetime.now(timezone.utc).replace(microsecond=0),
            tool_version=__version__,
            tables=checked.tables,
            drill=drilled.drill if drilled else None,
            errors=[*file_lines, *_drill_lines(drilled, stored.stamp)],
        )

    def _drill(
        self, directory: BackupDirectory, backup: BackupSet, checked: CheckedFiles
    ) -> DrilledSet | None:
        if not self.request.drill or not checked.tables or isinstance(backup, DamagedSet):
            return None
        if backup.manifest.origin == OLDER_SYSTEM:
            self.notices.append(
                f"{backup.stamp} was adopted from the older system, which kept no table "
                "definitions: its files were verified, and no restore test was made."
            )
            return None
        return drill_set(
            self.request,
            self._root,
            self._open_drill_server,
            path=directory.location,
            backup=backup,
            tables=tuple(checked.tables),
            lock_timeout=self._lock_timeout,
        )

    def _store(self, directory: BackupDirectory, verdict: SetVerdict) -> None:
        try:
            write_verdict(directory, verdict)
        except BackupError as error:
            # The backup may be read-only; the verdict is valid anyway.
            self.notices.append(f"The verdict on {verdict.timestamp} was not kept: {error.message}")

    def _left_out(self) -> str | None:
        waiting = [s.stamp for s in self.parts.values() if s.verdict is None and not s.is_gone]
        return f"{', '.join(waiting)} was not verified" if waiting else None

    def _end(self) -> None:
        """Append to the log of each location."""
        for directory in {s.directory.location: s.directory for s in self.parts.values()}.values():
            verdicts = [v for v in self._verdicts() if v.backup_path == directory.location]
            failed = not all(verdict.passed for verdict in verdicts)
            lines = [line for verdict in verdicts for line in verdict_lines(verdict)]
            self._append_to_log(directory, "verify", lines, failed=failed)

    def _verdicts(self) -> list[SetVerdict]:
        return [s.verdict for s in self.parts.values() if s.verdict is not None]

    def _make_result(self) -> VerifyResult:
        verdicts = self._verdicts()
        errors = [f"{verdict.timestamp}: {line}" for verdict in verdicts for line in verdict.errors]
        if self._own_error is not None:
            errors.insert(0, error_line(self._own_error))
        return VerifyResult(verified=not errors, sets=verdicts, **dict(self._common_fields(errors)))


def _was_removed(backup_set: SetToVerify) -> bool:
    """Whether a prune is removing the set, or nothing of it is left."""
    try:
        names = backup_set.directory.names()
    except BackupError:
        return False  # The errors so far are more precise.
    stamp, timestamps = backup_set.stamp, backup_set.directory.timestamps
    has_files = any(stamp_of_data_file(name, timestamps) == stamp for name in names)
    return tombstone_name(stamp) in names or not (has_files or manifest_name(stamp) in names)


def _latest(sets: Sequence[SetToVerify]) -> list[SetToVerify]:
    """Of the sets of a location, oldest first: the newest complete one of each source database;
    and damaged ones that may have been newer than one of these."""
    newest = {s.stored.source: s for s in sets if s.stored.is_usable}
    oldest = min((s.stored.age for s in newest.values()), default=None)
    return [
        s
        for s in sets
        if newest.get(s.stored.source) is s
        or (
            (s.stored.source is None or s.stored.broken_base is not None)
            and (oldest is None or s.stored.age > oldest)
        )
    ]


def _drill_lines(drilled: DrilledSet | None, stamp: str) -> list[str]:
    if drilled is None or drilled.error is None:
        return []
    if drilled.drill is None:
        return [f"The restore test of {stamp} could not run: {error_line(drilled.error)}"]
    return [f"The restore test of {stamp} failed: {line}" for line in drilled.drill.errors]


def verdict_lines(verdict: SetVerdict) -> list[str]:
    mark = "✓" if verdict.passed else "✗"
    state = "" if verdict.complete else " (incomplete)"
    lines = [f"{mark} {verdict.timestamp}{state}"]
    lines += [_file_line(table, entry) for table, entry in verdict.tables.items()]
    if verdict.drill is not None:
        outcome = "restored and proven" if verdict.drill.passed else "FAILED"
        lines.append(f"  restore test on {verdict.drill.server or 'no server'}: {outcome}")
        lines += [f"  {recall_line(index_recall)}" for index_recall in verdict.drill.recall_at_10]
    shown = [entry.error for entry in verdict.tables.values() if isinstance(entry, FailedTable)]
    lines += [f"  {line}" for line in verdict.errors if not any(text in line for text in shown)]
    return lines


def _file_line(table: str, entry: VerifiedTable | FailedTable) -> str:
    if isinstance(entry, FailedTable):
        return f"  ✗ {table}: {entry.error}"
    proof = "hash, rows and digest equal" if entry.has_digest else "every row readable"
    where = f"{entry.files} files" if isinstance(entry, VerifiedChain) else entry.source_file
    return f"  ✓ {table}: {entry.rows} rows in {where} ({entry.file_size}), {proof}"
