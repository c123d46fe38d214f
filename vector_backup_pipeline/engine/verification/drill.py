"""A drill: restore a set into a database of its own, prove it there, drop it."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timezone

from vector_backup_pipeline.engine.catalog.contents import ManifestSet
from vector_backup_pipeline.engine.errors import (
    BackupError,
    DatabaseRefused,
    IntegrityError,
    ResourceNotFound,
    TableNotFound,
)
from vector_backup_pipeline.engine.postgres.connection import ConnectionSettings
from vector_backup_pipeline.engine.postgres.drill_database import DrillServer, drill_database
from vector_backup_pipeline.engine.postgres.recreation.extensions import ExtensionUnavailable
from vector_backup_pipeline.engine.restore.run import RestoreRun
from vector_backup_pipeline.engine.results import Drill, RestoreResult
from vector_backup_pipeline.engine.storage.contract import BackupRoot
from vector_backup_pipeline.engine.table_definition import ExtensionDependency
from vector_backup_pipeline.engine.timestamps import TimestampFormat
from vector_backup_pipeline.parameters.restore import RestoreParameters
from vector_backup_pipeline.parameters.verify import VerifyParameters

# Where drills restore to: a server, given for as long as the drill takes.
OpenScratch = Callable[[], AbstractContextManager[DrillServer]]


# What a restore test fails with when the set is at fault: its files, or its definitions.
_SET_AT_FAULT = (IntegrityError, ResourceNotFound, TableNotFound, DatabaseRefused)


@dataclass(frozen=True)
class DrilledSet:
    """A restore test, and its error. `drill` is None when the set could not be judged: no server,
    no space, no privilege."""

    drill: Drill | None
    error: BackupError | None


def drill_set(
    request: VerifyParameters,
    root: BackupRoot,
    timestamps: TimestampFormat,
    open_scratch: OpenScratch,
    *,
    path: str,
    backup: ManifestSet,
    tables: tuple[str, ...],
    lock_timeout: float,
) -> DrilledSet:
    """Restore `tables` of the set at `path`, and prove them."""
    drill_id = uuid.uuid4().hex
    drilled = DrilledSet(None, None)
    try:
        with (
            open_scratch() as scratch,
            drill_database(
                scratch,
                drill_id,
                _roles(backup),
                backup.manifest.server.encoding,
                _extensions(backup),
            ) as settings,
        ):
            restore = RestoreRun(
                _restore_request(request, path, backup.stamp, tables),
                root,
                timestamps,
                lock_timeout=lock_timeout,
                run_id=drill_id,
                writes_log=False,
            )
            drilled = _drilled(restore, settings)
    except BackupError as error:
        return DrilledSet(drilled.drill, drilled.error or error)
    return drilled


def _drilled(restore: RestoreRun, settings: ConnectionSettings) -> DrilledSet:
    try:
        _restore(restore, settings)
    except BackupError:
        pass  # Remembered; the result tells it.
    finally:
        result = restore.close()
    is_judged = restore.error is None or (
        isinstance(restore.error, _SET_AT_FAULT)
        and not isinstance(restore.error, ExtensionUnavailable)
    )
    return DrilledSet(_told(result, restore.server) if is_judged else None, restore.error)


def _roles(backup: ManifestSet) -> set[str]:
    """The roles that row security policies of the set are for."""
    tables = backup.manifest.definitions
    relations = [each for table in tables for each in (table, *table.partitions)]
    return {role for each in relations for policy in each.policies for role in policy.roles}


def _extensions(backup: ManifestSet) -> list[ExtensionDependency]:
    needed = {key for table in backup.manifest.definitions for key in table.needs}
    objects = backup.manifest.dependencies.objects
    return [e for e in objects if isinstance(e, ExtensionDependency) and e.key in needed]


def _restore(restore: RestoreRun, settings: ConnectionSettings) -> None:
    restore.find()
    for load in restore.prepare(lambda: settings):
        restore.load(load.table, lambda _: None)
    restore.build_indexes()
    restore.prove()
    restore.measure_recall()


def _restore_request(
    request: VerifyParameters, path: str, stamp: str, tables: tuple[str, ...]
) -> RestoreParameters:
    return RestoreParameters(
        timestamp=stamp,
        backup_path=path,
        tables=tables,
        # The embedded server is of one version; the digest proves what it read.
        allow_other_versions=True,
        workers=request.workers,
        probes=request.probes,
        progress_every=1,
    )


def _told(result: RestoreResult, server: str | None) -> Drill:
    return Drill(
        passed=result.restore_performed and not result.errors,
        drilled_at=datetime.now(timezone.utc).replace(microsecond=0),
        server=server,
        restore_results=result.restore_results,
        not_recreated=result.not_recreated,
        recall_at_10=result.recall_at_10,
        notices=result.notices,
        errors=result.errors,
        duration=result.duration,
    )
