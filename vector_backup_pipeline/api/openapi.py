"""The parts of the OpenAPI document that FastAPI does not derive from the routes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi.routing import APIRoute

from vector_backup_pipeline.api.access import HEALTH_PATH
from vector_backup_pipeline.api.examples import TIME, Examples
from vector_backup_pipeline.api.models import MESSAGES, ResponseData, envelope_model, error_data
from vector_backup_pipeline.engine.timestamps import DEFAULT_TIMESTAMP_FORMAT
from vector_backup_pipeline.parameters.model import Parameters
from vector_backup_pipeline.parameters.types import LATEST
from vector_backup_pipeline.settings import API_TOKEN_VARIABLE, Settings

Responses = dict[int | str, dict[str, Any]]

TAGS = [
    {"name": "backup", "description": "Start, follow and cancel a backup."},
    {"name": "restore", "description": "Start, follow and cancel a restore."},
    {"name": "files", "description": "List backups and download their files."},
    {"name": "health", "description": "Check whether runs can start."},
]
_ERROR_DESCRIPTIONS = {
    400: "The request is invalid.",
    401: "The access token is missing or wrong.",
    404: "Not found.",
    409: "The run has already ended, or was canceled.",
    413: "The body is too large.",
    416: "The range contains no byte of the file.",
    500: "The operation failed.",
    503: "A dependency is unavailable.",
}
# The timestamp format of the installation as a pattern; other formats are safe in file names.
_DEFAULT_STAMP = (
    "[1-9][0-9]{3}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])_([01][0-9]|2[0-3])[0-5][0-9][0-5][0-9]"
)
_ANY_STAMP = "[A-Za-z0-9_-]+"


def _header(description: str, **schema: Any) -> dict[str, Any]:
    return {"description": description, "required": True, "schema": {"type": "string", **schema}}


_ERROR_HEADERS = {
    401: {"WWW-Authenticate": _header("`Bearer`", enum=["Bearer"])},
    416: {"Content-Range": _header("The file's size: `bytes */209`", pattern=r"^bytes \*/[0-9]+$")},
}
_CACHE_HEADERS = {
    "ETag": _header("Changes with the content."),
    "Cache-Control": _header("`private, no-cache`: revalidate with `If-None-Match`."),
}
_FILE_HEADERS = {
    **_CACHE_HEADERS,
    "Accept-Ranges": _header("`bytes`"),
    "Content-Disposition": _header("The file name."),
    "Content-Length": _header("The number of bytes in this answer."),
    "X-Content-Type-Options": _header("`nosniff`"),
}
_RANGE_HEADER = {"Content-Range": _header("The range and the file's size: `bytes 0-99/209`")}
_BYTES = {"schema": {"type": "string", "format": "binary"}}
_FILE_CONTENT = {
    **dict.fromkeys(
        (
            *("text/csv", "text/plain"),
            *("application/gzip", "application/zstd", "application/octet-stream"),
        ),
        _BYTES,
    ),
    # A range of a JSON file may not be JSON.
    "application/json": {"schema": {}, "example": {"schema_version": 2, "complete": True}},
}


def answer(code: int, data: type[ResponseData], description: str, **more: Any) -> Responses:
    """An answer with this HTTP status and data."""
    return {code: {"model": envelope_model(code, data), "description": description, **more}}


def errors(*codes: int, with_body: bool = True) -> Responses:
    """Errors with these HTTP statuses."""
    responses: Responses = {}
    for code in codes:
        headers = _ERROR_HEADERS.get(code, {})
        responses[code] = {"description": _ERROR_DESCRIPTIONS[code], "headers": headers}
        if with_body:
            responses[code]["model"] = envelope_model(code, error_data(code))
    return responses


def file_answers(*, with_body: bool) -> Responses:
    content = {"content": _FILE_CONTENT} if with_body else {}
    answers: Responses = {
        200: {"description": "The whole file.", "headers": _FILE_HEADERS, **content},
        304: {"description": "The file has not changed.", "headers": _CACHE_HEADERS},
    }
    if with_body:
        headers = _FILE_HEADERS | _RANGE_HEADER
        answers[206] = {"description": "The requested range.", "headers": headers, **content}
    return answers


def run_links(operation: str) -> dict[str, Any]:
    """Links from an answer with a `run_id` to the run's status and cancellation."""
    run_id = {"run_id": "$response.body#/data/run_id"}
    return {
        "status": {"operationId": f"{operation}_status", "parameters": run_id},
        "cancel": {"operationId": f"cancel_{operation}", "parameters": run_id},
    }


def request_body(model: type[Parameters]) -> dict[str, Any]:
    """A JSON body with these parameters; optional if no parameter is required."""
    schema = model.model_json_schema()
    schema["title"] = model.__name__
    for field in schema["properties"].values():
        field.pop("title", None)
    examples = {
        summary: {"summary": summary, "value": body} for summary, body in model.EXAMPLES.items()
    }
    content = {"application/json": {"schema": schema, "examples": examples}}
    return {"requestBody": {"required": "required" in schema, "content": content}}


def complete_document(
    document: dict[str, Any], routes: Iterable[APIRoute], settings: Settings
) -> dict[str, Any]:
    """Add the examples, the access token and the timestamp format to FastAPI's document."""
    is_default = settings.timestamps.pattern == DEFAULT_TIMESTAMP_FORMAT
    stamp = _DEFAULT_STAMP if is_default else _ANY_STAMP
    for route in routes:
        for method in route.methods or ():
            operation = document["paths"][route.path_format][method.lower()]
            # Invalid parameters are answered with 400.
            operation["responses"].pop("422", None)
            _add_examples(operation, route)
            if settings.api_token is not None and route.path == HEALTH_PATH:
                operation["security"] = []
            for parameter in operation.get("parameters", ()):
                if parameter["name"] == "timestamp":
                    parameter["schema"]["pattern"] = f"^{stamp}$"
            if "requestBody" in operation:
                schema = operation["requestBody"]["content"]["application/json"]["schema"]
                if "timestamp" in schema["properties"]:
                    schema["properties"]["timestamp"]["pattern"] = f"^({LATEST}|{stamp})$"
    for unused in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(unused, None)
    if settings.api_token is not None:
        description = f"The token of {API_TOKEN_VARIABLE}."
        document["components"]["securitySchemes"] = {
            "token": {"type": "http", "scheme": "bearer", "description": description}
        }
        document["security"] = [{"token": []}]
    return document


def _add_examples(operation: dict[str, Any], route: APIRoute) -> None:
    # FastAPI would drop the nulls in examples that are declared with a route.
    for code, declared in route.responses.items():
        if "model" in declared:
            data = declared["model"].model_fields["data"].annotation
            content = operation["responses"][str(code)]["content"]["application/json"]
            content["examples"] = _examples(int(code), data.EXAMPLES)


def _examples(code: int, examples: Examples) -> dict[str, Any]:
    """Complete answers in the form of OpenAPI's `examples`."""
    envelope = {"code": code, "success": code < 400, "message": MESSAGES[code]}
    return {
        summary.lower().replace(" ", "_"): {
            "summary": summary,
            "value": {**envelope, "data": {**data, "timestamp": TIME}},
        }
        for summary, data in examples.items()
    }
