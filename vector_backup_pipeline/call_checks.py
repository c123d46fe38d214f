"""What is wrong with a call, said before a run is made of it: the same for every door."""

from typing import Any

from vector_backup_pipeline.engine.catalog import check_timestamp
from vector_backup_pipeline.engine.postgres.connection import ConnectionSettings
from vector_backup_pipeline.engine.secrets import SecretText
from vector_backup_pipeline.jobs.backup import VectorBackupConfig
from vector_backup_pipeline.jobs.prune import VectorPruneConfig
from vector_backup_pipeline.jobs.restore import VectorRestoreConfig
from vector_backup_pipeline.jobs.verify import VectorVerifyConfig
from vector_backup_pipeline.settings import load_settings


def check_backup(parameters: dict[str, Any], db_connection: str | None) -> None:
    """Say what is wrong with a call before a run is made of it.

    Raises:
        InvalidParams: as the job itself would.
    """
    VectorBackupConfig(**parameters).request(load_settings())
    _check_connection(db_connection)


def check_restore(parameters: dict[str, Any], db_connection: str | None) -> None:
    """The same for a restore.

    Raises:
        InvalidParams, MissingRequiredParams: as the job itself would.
    """
    request = VectorRestoreConfig(**parameters).request()
    check_timestamp(load_settings().timestamps, request.timestamp)
    _check_connection(db_connection)


def check_verification(parameters: dict[str, Any], scratch_connection: str | None) -> None:
    """The same for a verification.

    Raises:
        InvalidParams: as the job itself would.
    """
    VectorVerifyConfig(**parameters).request()
    load_settings()
    _check_connection(scratch_connection)


def check_prune(parameters: dict[str, Any]) -> None:
    """The same for a prune.

    Raises:
        InvalidParams, MissingRequiredParams: as the job itself would.
    """
    VectorPruneConfig(**parameters).request(load_settings())


def _check_connection(db_connection: str | None) -> None:
    if db_connection is not None:
        ConnectionSettings.from_caller(SecretText(db_connection))
