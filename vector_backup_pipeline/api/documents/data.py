"""What `data` of an answer holds, as schemas."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from vector_backup_pipeline.api.run_progress import TableProgress
from vector_backup_pipeline.engine.catalog import BackupList
from vector_backup_pipeline.engine.errors import kinds_by_status
from vector_backup_pipeline.engine.results import BackupResult, RestoreResult

RunStatus = Literal[
    "QUEUED",
    "NOT_STARTED",
    "MANAGED",
    "STARTING",
    "STARTED",
    "SUSPENDED",
    "SUCCESS",
    "FAILURE",
    "CANCELING",
    "CANCELED",
]
# What a run may have failed with: those that this door alone knows are of no run.
_RUN_CODES = [400, 404, 409, 500, 503]


def error_types(*codes: int) -> list[str]:
    """Every `error_type` that an answer with one of those codes may have."""
    kinds = kinds_by_status()
    return sorted({kind.error_type for code in codes for kind in kinds[code]})


def _left_out(schema: dict[str, Any]) -> None:
    """A key that may be left out and is never null: the default of the model is none of the
    answer's."""
    schema.pop("default", None)
    for each in schema.pop("anyOf", ()):
        if each != {"type": "null"}:
            schema.update(each)


class Data(BaseModel):
    model_config = ConfigDict(extra="forbid")

    response: str = Field(description="For people, in Chinese.")
    timestamp: datetime


class BackupData(BackupResult):
    response: str = Field(description="For people, in Chinese.")
    run_id: str


class RestoreData(RestoreResult):
    response: str = Field(description="For people, in Chinese.")
    run_id: str


class LaunchedData(Data):
    run_id: str


class RunError(BaseModel):
    """What failed the run; `code` is what the waiting call is answered with."""

    model_config = ConfigDict(extra="forbid")

    error_type: str = Field(json_schema_extra={"enum": [*error_types(*_RUN_CODES)]})
    code: int = Field(json_schema_extra={"enum": [*_RUN_CODES]})
    detail: str
    can_retry: bool


class _StatusData(Data):
    run_id: str
    status: RunStatus
    created_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    progress: dict[str, TableProgress] = Field(description="By table.")
    error: RunError | None = Field(description="Null unless the run has ended and failed.")


class BackupStatusData(_StatusData):
    result: BackupResult | None = Field(description="Null until the run has ended.")


class RestoreStatusData(_StatusData):
    result: RestoreResult | None = Field(description="Null until the run has ended.")


class ListData(BackupList):
    response: str = Field(description="For people, in Chinese.")
    timestamp: datetime


Daemons = dict[str, Literal["alive", "missing"]]


class HealthData(Data):
    """Dagster's version, and each of its daemons that has to run."""

    dagster: str
    daemons: Daemons


class ErrorData(Data):
    """`error_type` is for programs, `detail` says precisely and in English what to mend."""

    error_type: str
    detail: str
    can_retry: bool | None = Field(
        None,
        description="True: the same call may succeed later. False: a run of this call may still "
        "start or go on.",
        json_schema_extra=_left_out,
    )


class HealthErrorData(ErrorData):
    """With Dagster's version and its daemons, where it answers and a daemon is missing."""

    dagster: str | None = Field(None, json_schema_extra=_left_out)
    daemons: Daemons | None = Field(None, json_schema_extra=_left_out)


class _RunErrorData(ErrorData):
    run_id: str | None = Field(
        None, description="There if a run was made.", json_schema_extra=_left_out
    )


class BackupErrorData(_RunErrorData):
    """With the run, if one was made, and its result, if it came to one."""

    result: BackupResult | None = Field(None, json_schema_extra=_left_out)


class RestoreErrorData(_RunErrorData):
    """With the run, if one was made, and its result, if it came to one."""

    result: RestoreResult | None = Field(None, json_schema_extra=_left_out)
