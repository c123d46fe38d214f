"""The operations that run as jobs: one record each, from which the job, the command, the API's call
and the readers of the result are made."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from vector_backup_pipeline.engine import results
from vector_backup_pipeline.engine.catalog.choice import check_timestamp
from vector_backup_pipeline.engine.postgres.connection import ConnectionSettings
from vector_backup_pipeline.engine.secrets import SecretText
from vector_backup_pipeline.parameters.backup import BackupParameters
from vector_backup_pipeline.parameters.model import Parameters
from vector_backup_pipeline.parameters.prune import PruneParameters
from vector_backup_pipeline.parameters.restore import RestoreParameters
from vector_backup_pipeline.parameters.verify import VerifyParameters
from vector_backup_pipeline.settings import Settings

TARGET_TAG, DATABASE_TAG = "vector_backup/target", "vector_backup/database"
# Set when a run has failed.
ERROR_TAG = "vector_backup/error_type"


@dataclass(frozen=True)
class Operation:
    """An operation that runs as a job."""

    name: str
    parameters: type[Parameters]
    result: type[results.RunResult]

    @property
    def job_name(self) -> str:
        return f"vector_{self.name}_job"

    @property
    def result_key(self) -> str:
        """The label of the result in the metadata of Dagster's events."""
        return f"vector_{self.name}_result"

    def tags(self, run_config: Mapping[str, Any], settings: Settings) -> dict[str, str]:
        """The tags of a run: its target, and the database that it connects to, by the name of the
        variable. Dagster's queue limits the runs of a database by them."""
        tags = {} if settings.target is None else {TARGET_TAG: settings.target}
        if "db_connection" in self.parameters.model_fields and "db_connection" not in run_config:
            tags[DATABASE_TAG] = settings.connection_variable
        return tags


def check_parameters(parameters: Parameters, settings: Settings) -> None:
    """Raise what the job's first step would raise, so that invalid parameters are refused before a
    run exists."""
    if isinstance(parameters, BackupParameters):
        parameters.completed(settings.backup_defaults)
    if isinstance(parameters, PruneParameters):
        settings.keep_rules.overridden_by(parameters)
    for key, value in parameters:
        if key in ("timestamp", "where_removed_since"):
            can_be_latest = key == "timestamp"
            check_timestamp(settings.timestamps, value, key=key, may_be_latest=can_be_latest)
        elif isinstance(value, SecretStr):
            ConnectionSettings.from_caller(SecretText(value.get_secret_value()), key)


BACKUP = Operation("backup", BackupParameters, results.BackupResult)
RESTORE = Operation("restore", RestoreParameters, results.RestoreResult)
VERIFY = Operation("verify", VerifyParameters, results.VerifyResult)
PRUNE = Operation("prune", PruneParameters, results.PruneResult)

OPERATIONS = (BACKUP, RESTORE, VERIFY, PRUNE)
