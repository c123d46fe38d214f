"""The answers as models. The routes fill them in, and the OpenAPI document is made from them.

Every answer is an envelope, the same as in the older Flask service, around the `data` of its kind.
"""

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any, Generic, Literal, TypeVar

from dagster import DagsterRunStatus
from fastapi.encoders import jsonable_encoder
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, create_model

from vector_backup_pipeline.engine.catalog.locations import BackupList
from vector_backup_pipeline.engine.errors import error_classes
from vector_backup_pipeline.engine.incremental.diff import SetDifference
from vector_backup_pipeline.engine.results import BackupResult, RestoreResult, RunResult

MESSAGES: Mapping[int, str] = {
    200: "操作成功",
    202: "操作成功",
    400: "请求参数错误",
    401: "未授权",
    404: "资源未找到",
    405: "请求方法不允许",
    409: "状态冲突",
    413: "请求体过大",
    416: "请求范围无效",
    500: "系统内部错误",
    503: "服务暂时不可用",
}
Daemons = dict[str, Literal["alive", "missing"]]

# The statuses of the errors that a run may fail with.
_RUN_CODES = (400, 404, 409, 500, 503)
_Data = TypeVar("_Data", bound=BaseModel)


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Envelope(Model, Generic[_Data]):
    """The form of every answer. `code` is the HTTP status."""

    code: int
    success: bool
    message: str
    data: _Data


class ResponseData(Model):
    """The data of an answer. Each also has `timestamp`, as its last key."""

    response: str = Field(description="A text for people, in Chinese.")


class BackupData(BackupResult, ResponseData):
    run_id: str


class RestoreData(RestoreResult, ResponseData):
    run_id: str


class RunData(ResponseData):
    run_id: str
    timestamp: datetime


class TableProgress(Model):
    """The progress of one table. `stopped`: the run ended before the table was finished. Unknown
    values are null."""

    state: Literal["waiting", "running", "done", "failed", "stopped"] = "waiting"
    rows: int | None = Field(None, description="Rows so far.", examples=[50000])
    size: str | None = Field(None, description="Bytes so far.", examples=["764.0 KB"])
    percent: float | None = Field(None, description="Percent of the table.", examples=[43.1])
    rows_per_second: float | None = Field(None, examples=[14210.5])
    seconds_left: float | None = Field(None, description="An estimate.", examples=[4.6])


class RunError(Model):
    """Why the run failed. `code` is the HTTP status that a waiting call gets."""

    error_type: str = Field(
        json_schema_extra=lambda schema: schema.update(enum=[*error_types(*_RUN_CODES)])
    )
    code: int = Field(json_schema_extra={"enum": [*_RUN_CODES]})
    detail: str
    can_retry: bool


class StatusData(ResponseData):
    run_id: str
    status: str = Field(
        description="As Dagster has it.",
        json_schema_extra={"enum": [status.value for status in DagsterRunStatus]},
    )
    created_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    progress: dict[str, TableProgress] = Field(description="The progress of each table.")
    result: BackupResult | RestoreResult | None = Field(description="Null until the run has ended.")
    error: RunError | None = Field(description="Null unless the run has failed.")
    timestamp: datetime


class ListData(BackupList, ResponseData):
    timestamp: datetime


class DiffData(SetDifference, ResponseData):
    timestamp: datetime


class HealthData(ResponseData):
    """Dagster's version, and the state of each daemon that it requires."""

    dagster: str
    daemons: Daemons
    timestamp: datetime


class ErrorData(ResponseData):
    """Keys without a value are absent."""

    error_type: str = Field(description="The kind of error, for programs.")
    detail: str = Field(description="What happened, to what, and what to do next.")
    can_retry: bool | None = Field(
        None,
        description="True: the same call may succeed later. False: a run of this call may still "
        "start or continue.",
    )
    run_id: str | None = Field(None, description="The run, if one was launched.")
    result: BackupResult | RestoreResult | None = Field(
        None, description="The run's result, if it has one."
    )
    dagster: str | None = Field(None, description="Only from `/healthz`: Dagster's version.")
    daemons: Daemons | None = Field(None, description="Only from `/healthz`: its daemons.")
    timestamp: datetime


def respond(
    code: int, data: ResponseData, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The answer with this HTTP status. Keys that an error does not set are left out."""
    # A run's result is JSON already, which pydantic would warn of.
    content = data.model_dump(
        exclude_unset=isinstance(data, ErrorData), by_alias=True, warnings=False
    )
    if isinstance(data, BackupData | RestoreData):
        # As in the result itself, the common fields come last.
        for key in (*RunResult.model_fields, "run_id"):
            content[key] = content.pop(key)
    envelope = {
        "code": code,
        "success": code < 400,
        "message": MESSAGES.get(code, MESSAGES[500]),
        "data": content,
    }
    return JSONResponse(jsonable_encoder(envelope), code, headers)


@cache
def envelope_model(code: int, data: type[ResponseData]) -> type[BaseModel]:
    """The model of the answer with this HTTP status and data."""
    fields: dict[str, Any] = {
        "code": (Literal[code], ...),
        "success": (Literal[code < 400], ...),
        "message": (Literal[MESSAGES[code]], ...),
    }
    # mypy takes no variable for a type argument.
    base: Any = Envelope
    model: type[BaseModel] = create_model(
        data.__name__.removesuffix("Data"), __base__=base[data], **fields
    )
    return model


@cache
def error_data(code: int) -> type[ErrorData]:
    """The model of the data of an error with this HTTP status."""
    fields: dict[str, Any] = {"error_type": (Literal[tuple(error_types(code))], ...)}
    return create_model(f"Error{code}Data", __base__=ErrorData, **fields)


def error_types(*codes: int) -> list[str]:
    """The kinds of errors that have these HTTP statuses."""
    return sorted({kind.error_type for kind in error_classes() if kind.http_status in codes})
