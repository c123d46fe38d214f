"""What each address may answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, create_model

from vector_backup_pipeline.api.documents import data, examples
from vector_backup_pipeline.api.documents.errors import (
    ERROR_DESCRIPTIONS,
    ERROR_HEADERS,
    Subject,
    error_data,
    error_examples,
)
from vector_backup_pipeline.api.envelope import DONE, MESSAGES
from vector_backup_pipeline.api.operations import BACKUP, RESTORE

# The keys of `answers` for a file's bytes, and for what is told of them without them.
FILE, FILE_HEAD = "file", "file_head"


@dataclass(frozen=True)
class _Good:
    """An answer's schema, by its name, and examples of its data by their summaries."""

    name: str
    code: int
    description: str
    data: type[BaseModel]
    examples: Mapping[str, examples.Example]
    links: Mapping[str, Any] = field(default_factory=dict)


def _run_links(operation: str) -> dict[str, Any]:
    run_id = {"run_id": "$response.body#/data/run_id"}
    return {
        "status": {"operationId": f"{operation}_status", "parameters": run_id},
        "cancel": {"operationId": f"cancel_{operation}", "parameters": run_id},
    }


_GOOD = {
    "backed_up": _Good(
        "BackedUp",
        200,
        "The run has ended, and everything that was asked for is done.",
        data.BackupData,
        {
            "Backed up": {
                "response": BACKUP.done,
                **examples.BACKUP_RESULT,
                "run_id": examples.RUN_ID,
            },
            "Backed up and truncated": {
                "response": BACKUP.done,
                **examples.TRUNCATED_RESULT,
                "run_id": examples.RUN_ID,
            },
        },
        _run_links("backup"),
    ),
    "restored": _Good(
        "Restored",
        200,
        "The run has ended, and every table is restored and proven.",
        data.RestoreData,
        {
            "Restored": {
                "response": RESTORE.done,
                **examples.RESTORE_RESULT,
                "run_id": examples.RUN_ID,
            }
        },
        _run_links("restore"),
    ),
    "backup_started": _Good(
        "Started",
        202,
        "With `wait=false`: the run is launched.",
        data.LaunchedData,
        {"Launched": examples.started(BACKUP.thing)},
        _run_links("backup"),
    ),
    "restore_started": _Good(
        "Started",
        202,
        "With `wait=false`: the run is launched.",
        data.LaunchedData,
        {"Launched": examples.started(RESTORE.thing)},
        _run_links("restore"),
    ),
    "backup_cancelling": _Good(
        "Cancelling",
        202,
        "The run was asked to end; its status tells when it has.",
        data.LaunchedData,
        {"Asked to end": examples.cancelling(BACKUP.thing)},
    ),
    "restore_cancelling": _Good(
        "Cancelling",
        202,
        "The run was asked to end; its status tells when it has.",
        data.LaunchedData,
        {"Asked to end": examples.cancelling(RESTORE.thing)},
    ),
    "backup_status": _Good(
        "BackupStatus",
        200,
        "How far the run is.",
        data.BackupStatusData,
        {
            "At work": examples.going_on(BACKUP.thing),
            "Done": examples.has_ended(BACKUP.thing, examples.BACKUP_RESULT),
            "Failed": examples.has_failed(
                BACKUP.thing, examples.FAILED_BACKUP_RESULT, examples.FULL_DISK
            ),
        },
    ),
    "restore_status": _Good(
        "RestoreStatus",
        200,
        "How far the run is.",
        data.RestoreStatusData,
        {
            "At work": examples.going_on(RESTORE.thing),
            "Done": examples.has_ended(RESTORE.thing, examples.RESTORE_RESULT),
            "Failed": {
                **examples.has_failed(
                    RESTORE.thing, examples.FAILED_RESTORE_RESULT, examples.NO_SET
                ),
                "progress": {},
            },
        },
    ),
    "listed": _Good(
        "Listed", 200, "The backup sets.", data.ListData, {"One set in the root": examples.LISTED}
    ),
    "healthy": _Good(
        "Healthy",
        200,
        "Dagster answers, and begins runs.",
        data.HealthData,
        {"Healthy": examples.HEALTHY},
    ),
}


def answers(subject: Subject, *kinds: str | int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route: good ones by their names, errors by their status."""
    told: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        if kind == FILE:
            told |= _FILE_ANSWERS
        elif kind == FILE_HEAD:
            told |= _HEAD_ANSWERS
        elif isinstance(kind, int):
            told[kind] = _bad(subject, kind)
        else:
            told[_GOOD[kind].code] = _good(_GOOD[kind])
    return told


def _good(good: _Good) -> dict[str, Any]:
    shown = {
        summary: {"code": good.code, "success": True, "message": DONE, "data": data}
        for summary, data in good.examples.items()
    }
    told = {
        "model": _envelope(good.name, good.data, good.code, success=True, message=DONE),
        "description": good.description,
        "content": _content(shown),
    }
    return told | ({"links": dict(good.links)} if good.links else {})


def _bad(subject: Subject, code: int) -> dict[str, Any]:
    shown = {
        each.summary: {
            "code": code,
            "success": False,
            "message": MESSAGES[code],
            "data": {
                "response": each.response,
                "error_type": each.error_type,
                "detail": each.detail,
                **each.more,
                "timestamp": examples.TIME,
            },
        }
        for each in error_examples(subject, code).values()
    }
    name, general = error_data(subject, code)
    told = {
        "model": _envelope(
            name, _error_data(name, general, code), code, success=False, message=MESSAGES[code]
        ),
        "description": ERROR_DESCRIPTIONS[code],
        "content": _content(shown),
    }
    return told | ({"headers": ERROR_HEADERS[code]} if code in ERROR_HEADERS else {})


def _content(shown: Mapping[str, examples.Example]) -> dict[str, Any]:
    named = {
        summary.replace(" ", "_").replace(",", "").lower(): {"summary": summary, "value": value}
        for summary, value in shown.items()
    }
    return {"application/json": {"examples": named}}


@cache
def _error_data(name: str, general: type[data.ErrorData], code: int) -> type[BaseModel]:
    of_data: dict[str, Any] = {"error_type": (Literal[tuple(data.error_types(code))], ...)}
    return create_model(f"{name}Data", __base__=general, __doc__=general.__doc__, **of_data)


@cache
def _envelope(
    name: str, of_data: type[BaseModel], code: int, *, success: bool, message: str
) -> type[BaseModel]:
    """One class for each name: two of the same name would get longer ones."""
    fields: dict[str, Any] = {
        "code": (Literal[code], ...),
        "success": (Literal[success], ...),
        "message": (Literal[message], ...),
        "data": (of_data, ...),
    }
    return create_model(name, __config__=ConfigDict(extra="forbid"), **fields)


def _header(description: str, *, required: bool = True) -> dict[str, Any]:
    return {"description": description, "required": required, "schema": {"type": "string"}}


_VERSION_HEADERS = {
    "ETag": _header("Changes whenever the bytes do."),
    "Cache-Control": _header("`private, no-cache`: ask again, with `If-None-Match`."),
}
_FILE_HEADERS = {
    **_VERSION_HEADERS,
    "Accept-Ranges": _header("`bytes`"),
    "Content-Disposition": _header("The name to save it by."),
    "Content-Length": _header("The bytes of this answer."),
    "X-Content-Type-Options": _header("`nosniff`"),
}
_BYTES = {"schema": {"type": "string", "format": "binary"}}
# JSON is read by who reads the document; a range of it may be no JSON.
_FILE_CONTENT = {
    "text/csv": _BYTES | {"example": "uuid,name,cmetadata\n"},
    "text/plain": _BYTES,
    "application/json": {"schema": {}, "example": {"schema_version": 1, "complete": True}},
    "application/gzip": _BYTES,
    "application/zstd": _BYTES,
    "application/octet-stream": _BYTES,
}
_NOT_CHANGED = {"description": "It has not changed.", "headers": _VERSION_HEADERS}
_FILE_ANSWERS: Mapping[int | str, dict[str, Any]] = {
    200: {"description": "The whole file.", "headers": _FILE_HEADERS, "content": _FILE_CONTENT},
    206: {
        "description": "The range that was asked for.",
        "headers": {
            **_FILE_HEADERS,
            "Content-Range": _header("Which bytes of how many: `bytes 0-99/209`"),
        },
        "content": _FILE_CONTENT,
    },
    304: _NOT_CHANGED,
}
_HEAD_ANSWERS: Mapping[int | str, dict[str, Any]] = {
    200: {"description": "What a GET would tell of the whole file.", "headers": _FILE_HEADERS},
    304: _NOT_CHANGED,
    **{
        code: {"description": text, "headers": ERROR_HEADERS.get(code, {})}
        for code, text in ERROR_DESCRIPTIONS.items()
        if code in (400, 401, 404, 500)
    },
}
