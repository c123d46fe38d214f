"""A drill: restore a set into a database of its own, prove it there, drop it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from vector_backup_pipeline.engine.catalog import ManifestSet
from vector_backup_pipeline.engine.errors import BackupError
from vector_backup_pipeline.engine.postgres.connection import ConnectionSettings
from vector_backup_pipeline.engine.postgres.drill_database import DrillServer, drill_database
from vector_backup_pipeline.engine.restore.request import RestoreRequest
from vector_backup_pipeline.engine.restore.run import RestoreRun
from vector_backup_pipeline.engine.results import Drill, RestoreResult, error_line
from vector_backup_pipeline.engine.storage.contract import BackupRoot
from vector_backup_pipeline.engine.timestamps import TimestampFormat
from vector_backup_pipeline.engine.verification.request import VerifyRequest

# Where drills restore to: a server, given for as long as the drill takes.
OpenScratch = Callable[[], AbstractContextManager[DrillServer]]


@dataclass(frozen=True)
class DrilledSet:
    """A drill, and what it failed of if it did."""

    drill: Drill
    error: BackupError | None


def drill_set(
    request: VerifyRequest,
    root: BackupRoot,
    timestamps: TimestampFormat,
    open_scratch: OpenScratch,
    *,
    path: str,
    backup: ManifestSet,
    tables: tuple[str, ...],
    lock_timeout: float,
) -> DrilledSet:
    """Restore `tables` of the set at `path` and say what came of it; without a place to restore to
    that is a drill that failed."""
    drill_id = uuid.uuid4().hex
    started = time.monotonic()
    try:
        with (
            open_scratch() as scratch,
            drill_database(scratch, drill_id, _roles(backup)) as settings,
        ):
            restore = RestoreRun(
                _restore_request(request, path, backup.stamp, tables),
                root,
                timestamps,
                lock_timeout=lock_timeout,
                run_id=drill_id,
                writes_log=False,
            )
            return _drilled(restore, settings)
    except BackupError as error:
        return DrilledSet(_no_drill(error, time.monotonic() - started), error)


def _drilled(restore: RestoreRun, settings: ConnectionSettings) -> DrilledSet:
    try:
        _restore(restore, settings)
    except BackupError:
        pass  # Remembered; the result tells it.
    finally:
        result = restore.close()
    return DrilledSet(_told(result, restore.server), restore.error)


def _roles(backup: ManifestSet) -> set[str]:
    """The roles that row security policies of the set are for."""
    tables = [table.definition for table in backup.manifest.tables]
    relations = [each for table in tables for each in (table, *table.partitions)]
    return {role for each in relations for policy in each.policies for role in policy.roles}


def _restore(restore: RestoreRun, settings: ConnectionSettings) -> None:
    restore.find()
    for load in restore.prepare(lambda: settings):
        restore.load(load.table, lambda _: None)
    restore.build_indexes()
    restore.prove()
    restore.measure_recall()


def _restore_request(
    request: VerifyRequest, path: str, stamp: str, tables: tuple[str, ...]
) -> RestoreRequest:
    return RestoreRequest(
        timestamp=stamp,
        backup_path=path,
        task_id=None,
        tables=tables,
        truncate_before_restore=False,
        on_conflict="fail",
        rename={},
        collections=None,
        fire_triggers=False,
        # The embedded server is of one version; the digest proves what it read.
        allow_other_versions=True,
        workers=request.workers,
        maintenance_work_mem=None,
        max_parallel_maintenance_workers=None,
        probes=request.probes,
        progress_every=1,
    )


def _told(result: RestoreResult, server: str | None) -> Drill:
    return Drill(
        passed=result.restore_performed and not result.errors,
        server=server,
        restore_results=result.restore_results,
        not_recreated=result.not_recreated,
        recall_at_10=result.recall_at_10,
        notices=result.notices,
        errors=result.errors,
        duration=result.duration,
    )


def _no_drill(error: BackupError, duration: float) -> Drill:
    return Drill(
        passed=False,
        server=None,
        restore_results={},
        not_recreated={},
        recall_at_10=[],
        notices=[],
        errors=[error_line(error)],
        duration=round(duration, 3),
    )
