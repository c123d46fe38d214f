"""Pruning one place: judged from one look at it, and carried out set by set.

    claim ─▶ look ─▶ judge ─▶ finish what is left ─▶ each set: look again, tombstone, manifest,
    verdict, files, tombstone away

A dry run takes the same path and stops where something would be written or removed.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone

from vector_backup_pipeline import __version__
from vector_backup_pipeline.engine.cancellation import as_run_error
from vector_backup_pipeline.engine.catalog.claims import remove_dead_readers, stamps_being_read
from vector_backup_pipeline.engine.catalog.contents import read_contents
from vector_backup_pipeline.engine.errors import (
    BackupError,
    LockTimeout,
    ResourceNotFound,
)
from vector_backup_pipeline.engine.file_names import (
    PENDING_SUFFIX,
    PRUNE_MARKER,
    manifest_name,
    marker_name,
    stamp_of_manifest,
    stamp_of_tombstone,
    tombstone_name,
)
from vector_backup_pipeline.engine.results import (
    KeptSet,
    LeftFile,
    PrunedLocation,
    error_line,
)
from vector_backup_pipeline.engine.retention.history import (
    History,
    LeftTombstones,
    Removal,
    mentioned,
    plan_removals,
    read_history,
    read_tombstones,
)
from vector_backup_pipeline.engine.retention.policy import Judgement, Verdicts, judge
from vector_backup_pipeline.engine.retention.removal import Removing
from vector_backup_pipeline.engine.retention.rules import KeepRules
from vector_backup_pipeline.engine.retention.tombstone import Tombstone
from vector_backup_pipeline.engine.storage.contract import BackupDirectory
from vector_backup_pipeline.engine.timestamps import TimestampFormat
from vector_backup_pipeline.parameters.prune import PruneParameters

_IS_BEING_READ = "a restore or a verification is reading it"


class LocationPrune:
    """The pruning of one place, and what has become of it so far."""

    def __init__(
        self,
        parameters: PruneParameters,
        rules: KeepRules,
        directory: BackupDirectory,
        timestamps: TimestampFormat,
        *,
        task_id: str | None,
        run_id: str,
    ) -> None:
        self.directory = directory
        self.task_id = task_id
        self.errors: list[BackupError] = []
        self._parameters = parameters
        self._rules = rules
        self._timestamps = timestamps
        self._run_id = run_id
        self._history: History | None = None
        self._verdicts = Verdicts((), frozenset(), ())
        self._waiting: dict[str, Removal] = {}
        self._spared: dict[str, str] = {}
        self._removing: list[Removing] = []
        self._finishing: list[Removing] = []

    def prune(self) -> None:
        """Do it, or see what would be done. What goes wrong is kept in `errors`, and ends it."""
        try:
            with self._alone():
                self._prune()
        except BaseException as cause:
            self.errors.append(as_run_error(cause))
            if not isinstance(cause, BackupError):
                raise

    def _prune(self) -> None:
        contents = read_contents(self.directory, self._timestamps)
        left = read_tombstones(contents)
        self.errors += left.errors.values()
        self._history = history = read_history(contents, left)
        self._verdicts = judge(
            history.sets,
            self._rules,
            self._timestamps.timezone,
            include_truncated=self._parameters.include_truncated,
        )
        removals = plan_removals(
            history, self._verdicts, include_orphans=self._parameters.include_orphans
        )
        self._waiting = {each.stamp: each for each in removals}
        self._clear_up(history, left)
        self._finish(history, left)
        for removal in removals:
            self._remove(history, removal)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Two prunes by different rules could each remove what the other one counts on."""
        if self._parameters.dry_run:
            yield
            return
        owner: dict[str, str | int] = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "run_id": self._run_id,
        }
        self.directory.remove_dead_claim(PRUNE_MARKER)
        claim = self.directory.claim(PRUNE_MARKER, owner)
        if claim is None:
            raise LockTimeout(
                f"Another prune is at work in {self.directory.location}; two at once could remove "
                "too much. Try again when it is over."
            )
        try:
            yield
        finally:
            claim.release()

    def _clear_up(self, history: History, left: LeftTombstones) -> None:
        """Markers of dead readers, and tombstones of prunes that died before they took anything."""
        if self._parameters.dry_run:
            return
        remove_dead_readers(self.directory, self._timestamps, history.contents.sizes)
        for name in history.contents.sizes:
            final = name.removesuffix(PENDING_SUFFIX)
            if final != name and stamp_of_tombstone(final, self._timestamps):
                self.directory.delete(name)
        for name in left.idle.values():
            self.directory.delete(name)

    def _finish(self, history: History, left: LeftTombstones) -> None:
        in_sets = {name for files in history.files.values() for name in files}
        for tombstone in left.begun.values():
            removing = Removing(self.directory, tombstone, sparing=in_sets)
            self._finishing.append(removing)
            if self._parameters.dry_run:
                removing.foretell()
            else:
                removing.bury()

    def _remove(self, history: History, removal: Removal) -> None:
        names = frozenset(self.directory.names())
        obstacle = self._obstacle(history, removal, names)
        removing = Removing(self.directory, self._tombstone(removal))
        if obstacle is not None:
            self._spared[removal.stamp] = obstacle
        elif self._parameters.dry_run:
            self._removing.append(removing)
            removing.foretell()
        else:
            self._check_vital(history, names)
            self._remove_for_good(removal, removing)
        del self._waiting[removal.stamp]

    def _remove_for_good(self, removal: Removal, removing: Removing) -> None:
        try:
            removing.write_tombstone()
            if self._is_being_read(removal.stamp, self.directory.names()):
                removing.take_back_tombstone()
                self._spared[removal.stamp] = _IS_BEING_READ
                return
            self._removing.append(removing)
            removing.bury()
        except BaseException:
            removing.give_up()
            raise

    def _obstacle(self, history: History, removal: Removal, names: frozenset[str]) -> str | None:
        """What has come between the judgement and now, if anything has."""
        stamp = removal.stamp
        if self._is_being_read(stamp, names):
            return _IS_BEING_READ
        if self.directory.claim_is_alive(marker_name(stamp)):
            return "its run is still at work"
        if (manifest_name(stamp) in names) != (removal.manifest is not None):
            return "its manifest has come or gone since it was judged"
        for name in sorted(names - history.contents.sizes.keys()):
            new = stamp_of_manifest(name, self._timestamps)
            if new and mentioned(self.directory, name, (stamp, *removal.files)):
                return f"the new set {new} mentions it"
        return None

    def _is_being_read(self, stamp: str, names: Iterable[str]) -> bool:
        return stamp in stamps_being_read(self.directory, self._timestamps, names)

    def _check_vital(self, history: History, names: frozenset[str]) -> None:
        """That the sets which make it safe to remove others are still there, and whole by name."""
        for stamp in self._verdicts.vital:
            wanted = {*history.files[stamp], manifest_name(stamp)}
            if wanted - names or tombstone_name(stamp) in names:
                raise ResourceNotFound(
                    f"The set {stamp} in {self.directory.location}, which has to stay when others "
                    "go, is not whole any more. Nothing else is removed there; prune again."
                )

    def _tombstone(self, removal: Removal) -> Tombstone:
        return Tombstone(
            tool_version=__version__,
            timestamp=removal.stamp,
            written_at=datetime.now(timezone.utc).replace(microsecond=0),
            run_id=self._run_id,
            reasons=list(removal.reasons),
            manifest=removal.manifest,
            verdict=removal.verdict,
            files=list(removal.files),
        )

    def tell(self) -> PrunedLocation:
        """What is known now."""
        removed = [each.tell() for each in self._removing if each.files]
        finished = [each.tell() for each in self._finishing]
        gone = {file for each in (*removed, *finished) for file in each.files}
        others = self._history.other_files if self._history else ()
        return PrunedLocation(
            task_id=self.task_id,
            backup_path=self.directory.location,
            kept=[kept for each in self._verdicts.judgements if (kept := self._kept(each))],
            removed=removed,
            finished=finished,
            other_files=[
                LeftFile(file=o.name, state=o.state) for o in others if o.name not in gone
            ],
            bytes_freed=sum(each.bytes for each in (*removed, *finished)),
            errors=[error_line(error) for error in self.errors],
        )

    def _kept(self, judgement: Judgement) -> KeptSet | None:
        stamp, reasons = judgement.stamp, list(judgement.reasons)
        if judgement.is_kept:
            return KeptSet(timestamp=stamp, reasons=reasons)
        if stamp in self._spared:
            return KeptSet(timestamp=stamp, reasons=[self._spared[stamp]])
        has_gone = any(each.stamp == stamp and each.files for each in self._removing)
        if stamp in self._waiting and not has_gone:
            return KeptSet(timestamp=stamp, reasons=["this prune ended before it came to it"])
        return None
