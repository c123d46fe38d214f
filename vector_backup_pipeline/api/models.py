"""The answers as models, with examples. The OpenAPI document is made from them."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any, ClassVar, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, create_model

from vector_backup_pipeline.api.envelope import MESSAGES
from vector_backup_pipeline.api.examples import (
    BACKUP,
    ERRORS,
    FAILED_BACKUP_STATUS,
    HEALTH,
    LIST,
    RESTORE,
    RESTORE_STATUS,
    RUN,
    RUNNING_STATUS,
    TIME,
    Example,
)
from vector_backup_pipeline.api.run_progress import TableProgress
from vector_backup_pipeline.engine.catalog.listing import BackupList
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
Daemons = dict[str, Literal["alive", "missing"]]
# The statuses of the errors that a run may fail with.
_RUN_CODES = [400, 404, 409, 500, 503]

_Data = TypeVar("_Data", bound=BaseModel)


class Envelope(BaseModel, Generic[_Data]):
    """The form of every answer. `code` is the HTTP status."""

    model_config = ConfigDict(extra="forbid")

    code: int
    success: bool
    message: str
    data: _Data


@cache
def envelope_model(code: int, data: type[BaseModel]) -> type[BaseModel]:
    """The answer with this HTTP status and this data."""
    fields: dict[str, Any] = {
        "code": (Literal[code], ...),
        "success": (Literal[code < 400], ...),
        "message": (Literal[MESSAGES[code]], ...),
    }
    name = data.__name__.removesuffix("Data")
    # mypy takes no variable for a type argument.
    base: Any = Envelope
    model: type[BaseModel] = create_model(name, __base__=base[data], **fields)
    return model


def examples(code: int, envelope: type[BaseModel]) -> dict[str, Any]:
    """Complete answers in the form of OpenAPI's `examples`."""
    data: Any = envelope.model_fields["data"].annotation
    return {
        summary.lower().replace(" ", "_"): {
            "summary": summary,
            "value": {
                "code": code,
                "success": code < 400,
                "message": MESSAGES[code],
                "data": {**example, "timestamp": TIME},
            },
        }
        for summary, example in data.EXAMPLES.items()
    }


class ResponseData(BaseModel):
    model_config = ConfigDict(extra="forbid")
    EXAMPLES: ClassVar[dict[str, Example]]

    response: str = Field(description="A text for people, in Chinese.")
    timestamp: datetime


class BackupData(BackupResult, ResponseData):
    EXAMPLES = {"Backed up and truncated": BACKUP}

    run_id: str


class RestoreData(RestoreResult, ResponseData):
    EXAMPLES = {"Restored": RESTORE}

    run_id: str


class StartedData(ResponseData):
    EXAMPLES = {"Started": {"response": "Vector表备份已启动", **RUN}}

    run_id: str


class CancelingData(ResponseData):
    EXAMPLES = {"Cancellation requested": {"response": "Vector表备份取消请求已提交", **RUN}}

    run_id: str


class RunError(BaseModel):
    """Why the run failed. `code` is the HTTP status that a waiting call gets."""

    model_config = ConfigDict(extra="forbid")

    error_type: str = Field(
        json_schema_extra=lambda schema: schema.update(enum=[*_error_types(*_RUN_CODES)])
    )
    code: int = Field(json_schema_extra={"enum": [*_RUN_CODES]})
    detail: str
    can_retry: bool


class _StatusData(ResponseData):
    run_id: str
    status: RunStatus
    created_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    progress: dict[str, TableProgress] = Field(description="The progress of each table.")
    error: RunError | None = Field(description="Null unless the run has failed.")


class BackupStatusData(_StatusData):
    EXAMPLES = {"Running": RUNNING_STATUS, "Failed": FAILED_BACKUP_STATUS}

    result: BackupResult | None = Field(description="Null until the run has ended.")


class RestoreStatusData(_StatusData):
    EXAMPLES = {"Running": RESTORE_STATUS}

    result: RestoreResult | None = Field(description="Null until the run has ended.")


class ListData(BackupList, ResponseData):
    EXAMPLES = {"One backup set": LIST}


class HealthData(ResponseData):
    """Dagster's version, and the state of each daemon that it requires."""

    EXAMPLES = {"Healthy": HEALTH}

    dagster: str
    daemons: Daemons


def _never_null(schema: dict[str, Any]) -> None:
    """The schema of a key that is absent rather than null."""
    schema.pop("default", None)
    kinds = [kind for kind in schema.pop("anyOf", ()) if kind != {"type": "null"}]
    schema.update(kinds[0] if len(kinds) == 1 else {"anyOf": kinds})


def _optional(description: str) -> Any:
    return Field(None, description=description, json_schema_extra=_never_null)


class ErrorData(ResponseData):
    error_type: str = Field(description="The kind of error, for programs.")
    detail: str = Field(description="What happened, to what, and what to do next.")
    can_retry: bool | None = _optional(
        "True: the same call may succeed later. False: a run of this call may still start or "
        "continue."
    )
    run_id: str | None = _optional("The run, if one was launched.")
    result: BackupResult | RestoreResult | None = _optional("The run's result, if it has one.")
    dagster: str | None = _optional("Only from `/healthz`: Dagster's version.")
    daemons: Daemons | None = _optional("Only from `/healthz`: the state of Dagster's daemons.")


@cache
def error_data(code: int) -> type[ErrorData]:
    """The data of an error with this HTTP status."""
    fields: dict[str, Any] = {"error_type": (Literal[tuple(_error_types(code))], ...)}
    model = create_model(f"Error{code}Data", __base__=ErrorData, **fields)
    model.EXAMPLES = {**ERRORS[code]}
    return model


def _error_types(*codes: int) -> list[str]:
    kinds = kinds_by_status()
    return sorted({kind.error_type for code in codes for kind in kinds[code]})
