"""What can be run: one record per operation, from which its job, its resource, the terminal's
command and the readers of its result are made."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import SecretStr

from vector_backup_pipeline.engine.results import (
    BackupResult,
    PruneResult,
    RestoreResult,
    RunResult,
    VerifyResult,
)
from vector_backup_pipeline.parameters.backup import BackupParameters
from vector_backup_pipeline.parameters.model import Parameters, plain_type
from vector_backup_pipeline.parameters.prune import PruneParameters
from vector_backup_pipeline.parameters.restore import RestoreParameters
from vector_backup_pipeline.parameters.verify import VerifyParameters


@dataclass(frozen=True)
class Operation:
    """An operation that runs as a job. `connection_resource` is the resource that takes the run's
    own connection string, if the parameters have one."""

    name: str
    parameters: type[Parameters]
    result: type[RunResult]
    connection_resource: str | None = None

    @property
    def job_name(self) -> str:
        return f"vector_{self.name}_job"

    @property
    def resource_key(self) -> str:
        """The key of the resource that holds the run's state."""
        return f"{self.name}_run"

    @property
    def result_key(self) -> str:
        """The label of the result in the metadata of Dagster's events."""
        return f"vector_{self.name}_result"

    @property
    def connection_key(self) -> str | None:
        """The parameter that holds a connection string. Dagster passes it to
        `connection_resource`, not to a step."""
        fields = self.parameters.model_fields.items()
        return next((k for k, f in fields if plain_type(f.annotation) is SecretStr), None)


BACKUP = Operation("backup", BackupParameters, BackupResult, connection_resource="postgres")
RESTORE = Operation("restore", RestoreParameters, RestoreResult, connection_resource="postgres")
VERIFY = Operation("verify", VerifyParameters, VerifyResult, connection_resource="drill_server")
PRUNE = Operation("prune", PruneParameters, PruneResult)

OPERATIONS = (BACKUP, RESTORE, VERIFY, PRUNE)
