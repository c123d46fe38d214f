"""One prune from start to end: `find`, `prune` for each location, `finish`, `close`.

A location that fails does not stop the others.
"""

import logging
from collections.abc import Iterator, Mapping

from vector_backup_pipeline.engine import results
from vector_backup_pipeline.engine.catalog.locations import check_root, find_directories
from vector_backup_pipeline.engine.errors import BackupError, ResourceNotFound
from vector_backup_pipeline.engine.report import error_lines
from vector_backup_pipeline.engine.retention.location import LocationPrune
from vector_backup_pipeline.engine.retention.rules import KeepRules
from vector_backup_pipeline.engine.runs import RunInParts
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.parameters.prune import PruneParameters

_log = logging.getLogger(__name__)


class PruneRun(RunInParts[results.PruneResult, LocationPrune]):
    def __init__(
        self,
        parameters: PruneParameters,
        default_rules: KeepRules,
        root: BackupRoot,
        *,
        run_id: str,
    ) -> None:
        """Raises `MissingRequiredParams` if every rule is disabled."""
        super().__init__(root, run_id)
        self.parameters = parameters
        self._rules = default_rules.overridden_by(parameters)
        self._waiting: set[str] = set()
        self._uploads: list[results.EndedUpload] = []

    def find(self) -> Mapping[str, LocationPrune]:
        """The locations to prune, by their keys within the run. Raises `ResourceNotFound` if the
        root or the task has no backups."""
        task_id = self.parameters.task_id
        with self._remembering():
            check_root(self._root)
            global_only = self.parameters.global_only
            directories = find_directories(self._root, task_id, global_only=global_only)
            for number, (task, directory) in enumerate(directories, 1):
                self.parts[f"location_{number}"] = LocationPrune(
                    directory, task, self.parameters, self._rules, self._run_id
                )
            if task_id is not None and not self.parts:
                raise ResourceNotFound(
                    f"The task {task_id} has no backups under {self._root.location}. See "
                    "vector-backup list."
                )
        self._waiting = {*self.parts}
        return self.parts

    def prune(self, key: str) -> results.PrunedLocation:
        """Prune one location. An error is in the report, and raised only by `check`."""
        self._waiting.discard(key)
        location = self.parts[key]
        location.prune()
        report = location.report()
        _log.info(
            "%s %s: %d sets kept, %d removed, %s freed",
            "Would prune" if self.parameters.dry_run else "Pruned",
            report.backup_path,
            len(report.kept),
            len(report.removed),
            results.readable_size(report.bytes_freed),
        )
        return report

    def _left_out(self) -> str | None:
        return "Not every location was pruned" if self._waiting else None

    def _end(self) -> None:
        """End abandoned uploads, and write each location's log."""
        prunes_all = self.parameters.task_id is None and not self.parameters.global_only
        if self._own_error is None and prunes_all:
            try:
                self._uploads = self._root.abort_abandoned_uploads(dry_run=self.parameters.dry_run)
            except BackupError as error:
                # The sets are pruned, and some stores cannot list unfinished uploads.
                self.notices.append(f"Abandoned uploads were not removed. {error.message}")
        for location in self.parts.values():
            self._write_log(location)

    def _make_result(self) -> results.PruneResult:
        locations = [location.report() for location in self.parts.values()]
        errors = [results.error_line(self._own_error)] if self._own_error else []
        errors += [f"{pruned.backup_path}: {e}" for pruned in locations for e in pruned.errors]
        return results.PruneResult(
            pruned=not errors and not self.parameters.dry_run,
            dry_run=self.parameters.dry_run,
            rules=str(self._rules),
            locations=locations,
            bytes_freed=sum(location.bytes_freed for location in locations),
            abandoned_uploads=self._uploads,
            **dict(self._common_fields(errors)),
        )

    def _write_log(self, location: LocationPrune) -> None:
        """Add a section to the location's log if something was removed or failed."""
        report = location.report()
        if self.parameters.dry_run or not (report.removed or report.finished or report.errors):
            return
        lines = [f"Rules: {self._rules}", *set_lines(report, dry_run=False)]
        lines += error_lines(report.errors)
        self._append_to_log(location.directory, "prune", lines, failed=bool(report.errors))


def location_lines(report: results.PrunedLocation, *, dry_run: bool) -> Iterator[str]:
    owner = "the root" if report.task_id is None else f"task {report.task_id}"
    yield f"Backups of {owner}: {report.backup_path}"
    lines = [*set_lines(report, dry_run=dry_run)]
    yield from lines or ["  no sets"]
    yield from (f"  {other.state}: {other.file}" for other in report.other_files)
    yield from (f"  ✗ {line}" for line in report.errors)


def set_lines(report: results.PrunedLocation, *, dry_run: bool) -> Iterator[str]:
    for kept in report.kept:
        reasons = "; ".join(kept.reasons)
        yield f"  keep      {kept.timestamp}  {kept.source_database or 'unknown'}  {reasons}"
    verbs = ("remove", "finish") if dry_run else ("removed", "finished")
    for verb, sets in zip(verbs, (report.removed, report.finished), strict=True):
        for removed in sets:
            size, reasons = results.readable_size(removed.bytes), "; ".join(removed.reasons)
            yield (
                f"  {verb:8}  {removed.timestamp}  {removed.source_database or 'unknown'}  "
                f"{reasons} ({len(removed.files)} files, {size})"
            )
