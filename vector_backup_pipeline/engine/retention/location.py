"""The prune of one location: apply the rules to its sets, then remove them one after another.

    claim ─▶ list, decide ─▶ finish interrupted removals ─▶ for each set: tombstone, files

If sets are added or removed in between, it lists and decides again. A dry run does the same without
writing or removing anything.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from vector_backup_pipeline.engine import file_names
from vector_backup_pipeline.engine.cancellation import as_run_error
from vector_backup_pipeline.engine.catalog.claims import (
    exclusive,
    remove_dead_readers,
    stamps_being_read,
)
from vector_backup_pipeline.engine.catalog.contents import Contents, read_contents
from vector_backup_pipeline.engine.catalog.locations import other_files
from vector_backup_pipeline.engine.catalog.sources import source_labels
from vector_backup_pipeline.engine.catalog.stored_sets import StoredSet, stored_sets
from vector_backup_pipeline.engine.errors import BackupError, IntegrityError, ResourceNotFound
from vector_backup_pipeline.engine.results import OtherFile, PrunedLocation, SetDecision, error_line
from vector_backup_pipeline.engine.retention.policy import Decision, decide, removal_order
from vector_backup_pipeline.engine.retention.removal import Removal, Tombstone, read_tombstone
from vector_backup_pipeline.engine.retention.rules import KeepRules
from vector_backup_pipeline.engine.storage.directory import BackupDirectory
from vector_backup_pipeline.parameters.prune import PruneParameters

_IS_READ = "a restore or a verification is reading it"


@dataclass
class LocationPrune:
    """The prune of one location, and what it has done so far."""

    directory: BackupDirectory
    task_id: str | None
    parameters: PruneParameters
    rules: KeepRules
    run_id: str
    errors: list[BackupError] = field(default_factory=list)
    _decisions: list[Decision] = field(default_factory=list)
    _labels: dict[str, str | None] = field(default_factory=dict)
    _other_files: list[OtherFile] = field(default_factory=list)
    # The files of the sets; one that is missing later was removed by another process.
    _set_files: set[str] = field(default_factory=set)
    _pending: list[Removal] = field(default_factory=list)
    # Sets that were to be removed, but are now being read.
    _spared: set[str] = field(default_factory=set)
    _removals: list[Removal] = field(default_factory=list)
    _finished: list[Removal] = field(default_factory=list)

    def prune(self) -> None:
        """Remove what the rules don't keep. An error ends the prune and is kept in `errors`."""
        dry_run = self.parameters.dry_run
        try:
            # Concurrent prunes with different rules could remove sets that the other one keeps.
            alone = exclusive(self.directory, file_names.PRUNE_MARKER, self.run_id, "prune")
            with contextlib.nullcontext() if dry_run else alone:
                self._finish_interrupted(self._list())
                while self._pending:
                    if not dry_run and self._has_changed():
                        self._list()
                    else:
                        self._remove(self._pending.pop(0))
        except BaseException as cause:
            self.errors.append(as_run_error(cause))
            if not isinstance(cause, BackupError):
                raise

    def _list(self) -> Contents:
        contents = self._without_idle_tombstones(read_contents(self.directory))
        sets = stored_sets(contents)
        in_use = {stamp: "its run is active" for stamp, alive in contents.runs.items() if alive}
        for stamp in stamps_being_read(self.directory, contents.sizes):
            in_use[stamp] = _IS_READ
        self._decisions = decide(
            sets,
            in_use,
            self.rules,
            self.directory.timestamps.now(),
            include_truncated=self.parameters.include_truncated,
        )
        labels = source_labels(s.source for s in sets)
        self._labels = {s.stamp: labels[s.source] if s.source else None for s in sets}
        self._other_files = list(other_files(contents, sets))
        stored = {file.name for s in sets for file in s.all_files} & contents.sizes.keys()
        self._set_files = stored | {file_names.manifest_name(stamp) for stamp in contents.manifests}
        removals = self._removals_of(contents, sets)
        self._pending = [r for r in removals if r.tombstone.manifest or r.tombstone.files]
        return contents

    def _without_idle_tombstones(self, contents: Contents) -> Contents:
        """The contents without tombstones of sets whose removal has not begun. The rules are
        applied to these sets again."""
        idle = {s for s in contents.tombstones if file_names.manifest_name(s) in contents.sizes}
        if not self.parameters.dry_run:
            for name in contents.sizes:
                stamp = file_names.stamp_of_tombstone(
                    name.removesuffix(file_names.PENDING_SUFFIX), self.directory.timestamps
                )
                if stamp and (stamp in idle or name.endswith(file_names.PENDING_SUFFIX)):
                    self.directory.delete(name)
            remove_dead_readers(self.directory, contents.sizes)
        return replace(
            contents, manifests=contents.manifests | idle, tombstones=contents.tombstones - idle
        )

    def _removals_of(self, contents: Contents, sets: list[StoredSet]) -> Iterator[Removal]:
        """The removals of sets, and then of orphaned files if requested."""
        # A file that several sets name is removed with the last one.
        files = {s.stamp: {file.name for file in s.all_files} for s in sets}
        for decision in removal_order(self._decisions, sets):
            own = files.pop(decision.stamp) - set().union(*files.values())
            yield self._removal(contents, decision.stamp, decision.reasons, own)
        if self.parameters.include_orphans and any(d.is_good for d in self._decisions):
            kept = {d.stamp for d in self._decisions if d.is_kept}
            used = {s.stamp for s in sets}.union(*(s.needs for s in sets if s.stamp in kept))
            in_sets = set().union(*files.values())
            for stamp in sorted(contents.data_files.keys() - used):
                if contents.state_without_set(stamp) == "orphan":
                    own = {*contents.data_files[stamp]} - in_sets
                    yield self._removal(contents, stamp, ["orphaned files"], own)

    def _removal(
        self, contents: Contents, stamp: str, reasons: Sequence[str], files: set[str]
    ) -> Removal:
        manifest, verdict = file_names.manifest_name(stamp), file_names.verdict_name(stamp)
        tombstone = Tombstone(
            timestamp=stamp,
            source_database=self._labels.get(stamp),
            run_id=self.run_id,
            reasons=list(reasons),
            manifest=manifest if manifest in contents.sizes else None,
            verdict=verdict if verdict in contents.sizes else None,
            # Only data files may be removed because a manifest names them.
            files=sorted(
                name
                for name in files & contents.sizes.keys()
                if file_names.stamp_of_data_file(name, self.directory.timestamps)
            ),
        )
        return Removal(self.directory, tombstone)

    def _finish_interrupted(self, contents: Contents) -> None:
        for stamp in sorted(contents.tombstones):
            try:
                tombstone = read_tombstone(self.directory, stamp)
            except ResourceNotFound:
                continue
            except IntegrityError as error:
                self.errors.append(error)
                continue
            removal = Removal(self.directory, tombstone)
            self._finished.append(removal)
            removal.remove_files(dry_run=self.parameters.dry_run, spared=self._set_files)

    def _has_changed(self) -> bool:
        """Whether a set was added or a file of a set is missing since the last listing."""
        names, timestamps = set(self.directory.names()), self.directory.timestamps
        manifests = {name for name in names if file_names.stamp_of_manifest(name, timestamps)}
        return manifests | (names & self._set_files) != self._set_files

    def _remove(self, removal: Removal) -> None:
        stamp = removal.tombstone.timestamp
        if self.parameters.dry_run:
            self._removals.append(removal)
            removal.remove_files(dry_run=True)
            return
        try:
            removal.write_tombstone()
            # A reader that started before the tombstone was written has its marker by now.
            names = self.directory.names()
            if stamp in stamps_being_read(self.directory, names):
                removal.take_back_tombstone()
                self._spared.add(stamp)
                return
            self._removals.append(removal)
            removal.remove_files(dry_run=False)
            self._set_files -= removal.removed.keys()
        except BaseException:
            with contextlib.suppress(BackupError):
                removal.take_back_tombstone()
            raise

    def report(self) -> PrunedLocation:
        """The result so far."""
        removed = [removal.report() for removal in self._removals if removal.removed]
        finished = [removal.report() for removal in self._finished]
        gone = {name for removed_set in (*removed, *finished) for name in removed_set.files}
        gone_stamps = {removed_set.timestamp for removed_set in removed}
        return PrunedLocation(
            task_id=self.task_id,
            backup_path=self.directory.location,
            kept=[self._kept(d) for d in self._decisions if d.stamp not in gone_stamps],
            removed=removed,
            finished=finished,
            other_files=[other for other in self._other_files if other.file not in gone],
            bytes_freed=sum(removed_set.bytes for removed_set in (*removed, *finished)),
            errors=[error_line(error) for error in self.errors],
        )

    def _kept(self, decision: Decision) -> SetDecision:
        reasons = list(decision.reasons)
        if not decision.is_kept:
            is_read = decision.stamp in self._spared
            reasons = [_IS_READ if is_read else "the prune ended before removing it"]
        return SetDecision(
            timestamp=decision.stamp,
            source_database=self._labels[decision.stamp],
            reasons=reasons,
        )
