"""One prune from beginning to end, place by place.

    find ─▶ prune (each place) ─▶ finish ─▶ close

A place where something goes wrong does not stop the others.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import datetime, timezone

from vector_backup_pipeline.engine.cancellation import as_run_error
from vector_backup_pipeline.engine.catalog.locations import check_root, find_directories
from vector_backup_pipeline.engine.errors import (
    BackupError,
    InvalidParams,
    ResourceNotFound,
    RunCancelled,
)
from vector_backup_pipeline.engine.file_names import LOG_NAME
from vector_backup_pipeline.engine.report import canceled
from vector_backup_pipeline.engine.results import (
    EndedUpload,
    PrunedLocation,
    PruneResult,
    error_line,
    readable_size,
)
from vector_backup_pipeline.engine.retention.location import LocationPrune
from vector_backup_pipeline.engine.retention.report import prune_section
from vector_backup_pipeline.engine.retention.rules import KeepRules
from vector_backup_pipeline.engine.storage.contract import BackupDirectory, BackupRoot
from vector_backup_pipeline.engine.timestamps import TimestampFormat
from vector_backup_pipeline.parameters.prune import PruneParameters

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LocationToPrune:
    """A place that is about to be pruned; `key` names it within the run."""

    key: str
    directory: str
    task_id: str | None


class PruneRun:
    """The state of one prune. `prune` is called once a place."""

    def __init__(
        self,
        parameters: PruneParameters,
        default_rules: KeepRules,
        root: BackupRoot,
        timestamps: TimestampFormat,
        *,
        run_id: str,
    ) -> None:
        """Raises `MissingRequiredParams` if no rule keeps anything."""
        self.parameters = parameters
        self._rules = default_rules.but(parameters)
        self._root = root
        self._timestamps = timestamps
        self._run_id = run_id
        # Who canceled the run, as far as known; for the log.
        self.canceled_by: str | None = None
        self._started = time.monotonic()
        self._began_at = datetime.now(timezone.utc)
        self._places: dict[str, LocationPrune] = {}
        self._pruned: set[str] = set()
        self._uploads: list[EndedUpload] = []
        self._own_errors: list[BackupError] = []
        self._notices: list[str] = []
        self._result: PruneResult | None = None

    @property
    def error(self) -> BackupError | None:
        """What the run failed of: its own error, else the first one of a place."""
        of_places = (error for place in self._places.values() for error in place.errors)
        return next(iter(self._own_errors), None) or next(of_places, None)

    def error_of(self, key: str) -> BackupError | None:
        """What went wrong in a place first."""
        return next(iter(self._places[key].errors), None)

    def find(self) -> list[LocationToPrune]:
        """The places that are asked for.

        Raises:
            ResourceNotFound: the root is not there, or the place that was named.
        """
        try:
            check_root(self._root)
            for task_id, directory in self._directories():
                self._places[f"location_{len(self._places) + 1}"] = LocationPrune(
                    self.parameters,
                    self._rules,
                    directory,
                    self._timestamps,
                    task_id=task_id,
                    run_id=self._run_id,
                )
        except BaseException as cause:
            self._own_errors.append(as_run_error(cause))
            raise
        return [
            LocationToPrune(key, place.directory.location, place.task_id)
            for key, place in self._places.items()
        ]

    def _directories(self) -> list[tuple[str | None, BackupDirectory]]:
        parameters = self.parameters
        places = find_directories(
            self._root, parameters.task_id, global_only=parameters.global_only
        )
        found = [(task_id, directory) for task_id, directory in places if directory is not None]
        if parameters.task_id is not None and not found:
            raise ResourceNotFound(
                f"The task {parameters.task_id} has no backups under {self._root.location}. "
                "vector-backup list shows what is there."
            )
        return found

    def prune(self, key: str) -> PrunedLocation:
        """Prune one place. What goes wrong there raises nothing; it is told, and in `error_of`."""
        place = self._places[key]
        self._pruned.add(key)
        place.prune()
        told = place.tell()
        kept, removed, freed = len(told.kept), len(told.removed), readable_size(told.bytes_freed)
        action = "Would prune" if self.parameters.dry_run else "Pruned"
        message = "%s %s: %d sets kept, %d removed, %s freed"
        _log.info(message, action, told.backup_path, kept, removed, freed)
        return told

    def finish(self) -> PruneResult:
        """End abandoned uploads, write the log of each place, and tell the result. Once.

        Raises:
            InvalidParams: steps were left out, and so not every place was pruned.
        """
        if self._result is not None:
            return self._result
        left_out = self._left_out() if self.error is None else None
        if left_out is not None:
            self._own_errors.append(left_out)
        if not self._own_errors and self.parameters.has_all_locations:
            self._end_abandoned_uploads()
        self._append_to_logs()
        self._result = self._tell_result()
        if left_out is not None:
            raise left_out
        return self._result

    def close(self) -> PruneResult:
        """Leave nothing untold, whatever happened before."""
        if self._result is None and self.error is None and self._untouched():
            self._own_errors.append(RunCancelled())
        return self.finish()

    def _untouched(self) -> list[str]:
        return [p.directory.location for key, p in self._places.items() if key not in self._pruned]

    def _left_out(self) -> BackupError | None:
        untouched = self._untouched()
        if not untouched:
            return None
        return InvalidParams(
            f"{', '.join(untouched)} was not pruned: a step of the job was left out. Launch the "
            "whole job."
        )

    def _end_abandoned_uploads(self) -> None:
        try:
            found = self._root.abort_abandoned_uploads(dry_run=self.parameters.dry_run)
        except BackupError as error:
            # The sets are pruned, and some stores cannot list unfinished uploads.
            self._notices.append(f"Abandoned uploads were not removed. {error.message}")
            return
        self._uploads = [
            EndedUpload(location=each.location, started_at=each.started_at, size=each.size)
            for each in found
        ]

    def _append_to_logs(self) -> None:
        if self.parameters.dry_run:
            return
        for place in self._places.values():
            told = place.tell()
            if not (told.removed or told.finished or told.errors):
                continue
            section = prune_section(
                told,
                str(self._rules),
                self._local(self._began_at),
                run_id=self._run_id,
                canceled=canceled(self.error, self.canceled_by),
            )
            try:
                place.directory.append(LOG_NAME, section)
            except BackupError as error:
                place.errors.append(error)

    def _tell_result(self) -> PruneResult:
        locations = [place.tell() for place in self._places.values()]
        errors = [error_line(error) for error in self._own_errors]
        errors += [f"{each.backup_path}: {line}" for each in locations for line in each.errors]
        return PruneResult(
            pruned=not errors and not self.parameters.dry_run,
            dry_run=self.parameters.dry_run,
            rules=str(self._rules),
            locations=locations,
            bytes_freed=sum(each.bytes_freed for each in locations),
            abandoned_uploads=self._uploads,
            notices=self._notices,
            errors=errors,
            duration=round(time.monotonic() - self._started, 3),
            timestamp=self._local(self._began_at),
        )

    def _local(self, moment: datetime) -> datetime:
        return moment.astimezone(self._timestamps.timezone).replace(microsecond=0)
