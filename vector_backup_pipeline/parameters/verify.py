"""The parameters of a verification."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator, Field

from vector_backup_pipeline.engine.errors import Problem
from vector_backup_pipeline.parameters.model import Parameters, Shown
from vector_backup_pipeline.parameters.restore import DEFAULT_PROBES
from vector_backup_pipeline.parameters.types import (
    CONNECTION_FORM,
    DEFAULT_WORKERS,
    LATEST,
    BackupPath,
    Connection,
    Probes,
    SourceDatabase,
    TaskId,
    Workers,
    two_locations,
)


class VerifyParameters(Parameters):
    """What may be asked of a verification."""

    timestamp: Annotated[
        str | None,
        AfterValidator(lambda text: text or None),
        Shown(metavar="STAMP", default="all sets"),
    ] = Field(
        default=None,
        description="Backup set to verify: its timestamp, or latest for the newest complete one "
        "of each location and database, and any newer one that is damaged.",
        examples=["20250721_234914", LATEST],
    )
    source_database: Annotated[SourceDatabase, Shown(default="all databases")] = Field(
        default=None,
        description="Database whose sets to verify, as vector-backup list shows it: its name, or "
        "{system_identifier}/{name} if servers share the name.",
    )
    backup_path: Annotated[BackupPath, Shown(default="all locations")] = Field(
        default=None,
        description="Directory of the sets: relative to the root's parent, or absolute under the "
        "root.",
    )
    task_id: Annotated[TaskId, Shown(default="all locations")] = Field(
        default=None, description="Task whose directory holds the sets; a shorthand for its path."
    )
    drill: bool = Field(
        default=False,
        description="Add a restore test: restore each set into a database made for it, compare, "
        "and drop it.",
    )
    scratch_connection: Annotated[Connection, Shown(default="an embedded PostgreSQL")] = Field(
        default=None,
        description="Connection string of a server for the restore test, whose role must be "
        f"allowed to create databases: {CONNECTION_FORM}",
    )
    workers: Workers = Field(
        default=DEFAULT_WORKERS, description="Parallel connections of a restore test, at most 64."
    )
    probes: Probes = Field(
        default=DEFAULT_PROBES,
        description="Searches that measure the recall@10 of each vector index in a restore test; "
        "0: none.",
    )

    @property
    def names_a_place(self) -> bool:
        return self.task_id is not None or self.backup_path is not None

    def conflicts(self) -> Iterator[Problem]:
        yield from two_locations(self.task_id, self.backup_path)
