"""A drill: restore a set into a database of its own, prove it there, drop it."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager

from vector_backup_pipeline.engine.errors import BackupError
from vector_backup_pipeline.engine.postgres.connection import ConnectionSettings
from vector_backup_pipeline.engine.postgres.drill_database import drill_database
from vector_backup_pipeline.engine.restore.request import RestoreRequest
from vector_backup_pipeline.engine.restore.run import RestoreRun
from vector_backup_pipeline.engine.results import Drill, RestoreResult
from vector_backup_pipeline.engine.storage.contract import BackupRoot
from vector_backup_pipeline.engine.timestamps import TimestampFormat
from vector_backup_pipeline.engine.verification.request import VerifyRequest

# Where drills restore to: a server, given for as long as the drill takes.
OpenScratch = Callable[[], AbstractContextManager[ConnectionSettings]]


def drill_set(
    request: VerifyRequest,
    root: BackupRoot,
    timestamps: TimestampFormat,
    scratch: ConnectionSettings,
    *,
    path: str,
    stamp: str,
    tables: tuple[str, ...],
    lock_timeout: float,
) -> Drill:
    """Restore `tables` of the set `stamp` at `path` and say what came of it.

    Raises:
        PermissionDenied, ServiceUnavailable, DatabaseError: there is no place for a drill.
    """
    drill_id = uuid.uuid4().hex
    restore = RestoreRun(
        _restore_request(request, path, stamp, tables),
        root,
        timestamps,
        lock_timeout=lock_timeout,
        run_id=drill_id,
        default_path=path,
        writes_log=False,
    )
    with drill_database(scratch, drill_id) as settings:
        try:
            _restore(restore, settings)
        except BackupError:
            pass  # Remembered; the result tells it.
        finally:
            result = restore.close()
    return _told(result, restore.server)


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
        workers=request.workers,
        maintenance_work_mem=None,
        max_parallel_maintenance_workers=None,
        probes=request.probes,
        progress_every=1,
    )


def _told(result: RestoreResult, server: str | None) -> Drill:
    return Drill(
        passed=result.restore_performed,
        server=server,
        restore_results=result.restore_results,
        not_recreated=result.not_recreated,
        recall_at_10=result.recall_at_10,
        notices=result.notices,
        errors=result.errors,
        duration=result.duration,
    )
