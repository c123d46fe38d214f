"""A restore test: restore a set into a temporary database, compare the rows, drop the database."""

from __future__ import annotations

import contextlib
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
from vector_backup_pipeline.engine.postgres.recreation.target_objects import ExtensionUnavailable
from vector_backup_pipeline.engine.restore.run import RestoreRun
from vector_backup_pipeline.engine.results import Drill
from vector_backup_pipeline.engine.storage.root import BackupRoot
from vector_backup_pipeline.parameters.restore import RestoreParameters
from vector_backup_pipeline.parameters.verify import VerifyParameters

# Opens the server that a restore test uses.
OpenDrillServer = Callable[[], AbstractContextManager[DrillServer]]

# A restore test fails with one of these if the set's files or definitions are the cause.
_SET_AT_FAULT = (IntegrityError, ResourceNotFound, TableNotFound, DatabaseRefused)


@dataclass(frozen=True)
class DrilledSet:
    """A restore test and its error. `drill` is None if the test could not run: no server, no space,
    no privilege."""

    drill: Drill | None
    error: BackupError | None


def drill_set(
    request: VerifyParameters,
    root: BackupRoot,
    open_drill_server: OpenDrillServer,
    *,
    path: str,
    backup: ManifestSet,
    tables: tuple[str, ...],
    lock_timeout: float,
) -> DrilledSet:
    """Restore `tables` of the set at `path`, and prove them."""
    drill_id = uuid.uuid4().hex
    restore = RestoreRun(
        RestoreParameters(
            timestamp=backup.stamp,
            backup_path=path,
            tables=tables,
            # The embedded server has a fixed version; digests prove the values.
            allow_other_versions=True,
            workers=request.workers,
            probes=request.probes,
            progress_every=1,
        ),
        root,
        lock_timeout=lock_timeout,
        run_id=drill_id,
        writes_log=False,
    )
    drilled = DrilledSet(None, None)
    manifest = backup.manifest
    required = [address for table in manifest.definitions for address in table.requires]
    # Roles that row security policies name.
    roles = {address.names[0] for address in required if address.kind == "role"}
    extensions = [needed for needed in manifest.dependencies if needed.kind == "extension"]
    encoding = manifest.server.encoding
    try:
        with (
            open_drill_server() as server,
            drill_database(server, drill_id, roles, encoding, extensions) as settings,
        ):
            drilled = _drilled(restore, settings)
    except BackupError as error:
        return DrilledSet(drilled.drill, drilled.error or error)
    return drilled


def _drilled(restore: RestoreRun, settings: ConnectionSettings) -> DrilledSet:
    try:
        with contextlib.suppress(BackupError):  # Kept in `error`.
            restore.find(lambda: settings)
            for load in restore.prepare():
                restore.load(load.table, lambda _: None)
            restore.build_indexes()
            restore.prove()
            restore.measure_recall()
    finally:
        result = restore.close()
    error = restore.error
    if error is not None and (
        not isinstance(error, _SET_AT_FAULT) or isinstance(error, ExtensionUnavailable)
    ):
        return DrilledSet(None, error)
    drill = Drill(
        passed=result.restore_performed and not result.errors,
        drilled_at=datetime.now(timezone.utc).replace(microsecond=0),
        server=restore.server,
        restore_results=result.restore_results,
        not_recreated=result.not_recreated,
        recall_at_10=result.recall_at_10,
        notices=result.notices,
        errors=result.errors,
        duration=result.duration,
    )
    return DrilledSet(drill, error)
