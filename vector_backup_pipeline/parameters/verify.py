"""The parameters of a verification."""

from typing import Annotated

from pydantic import Field

from vector_backup_pipeline.parameters import types
from vector_backup_pipeline.parameters.model import Parameters, Shown


class VerifyParameters(Parameters):
    """The parameters of a verification."""

    EXCLUSIONS = (types.ONE_LOCATION,)

    timestamp: Annotated[str | None, Shown(default="all sets", is_set=True)] = Field(
        None, examples=["20250721_234914", types.LATEST]
    )
    """Backup set to verify: its timestamp, or latest for the newest complete one of each location
    and database, and any newer one that is damaged."""
    source_database: Annotated[types.SourceDatabase, Shown(default="all databases")] = None
    backup_path: Annotated[types.BackupPath, Shown(default="all locations")] = None
    task_id: Annotated[types.TaskId, Shown(default="all locations")] = None
    drill: bool = False
    """Also run a restore test: restore each set into a temporary database and compare the rows."""
    scratch_connection: Annotated[types.Connection, Shown(default="an embedded PostgreSQL")] = (
        Field(
            default=None,
            description="Connection string of a server for the restore test, with a role that has "
            f"CREATEDB: {types.CONNECTION_FORM}",
        )
    )
    workers: types.Workers = types.DEFAULT_WORKERS
    probes: types.Probes = types.DEFAULT_PROBES
