"""The parts of the OpenAPI document that FastAPI does not derive from the routes."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from fastapi.routing import APIRoute

from vector_backup_pipeline.api.access import HEALTH_PATH
from vector_backup_pipeline.api.downloads import DEFAULT_MEDIA_TYPE, MEDIA_TYPES
from vector_backup_pipeline.api.models import ResponseData, envelope_model, error_data
from vector_backup_pipeline.engine.timestamps import DEFAULT_TIMESTAMP_FORMAT
from vector_backup_pipeline.parameters.model import Parameters
from vector_backup_pipeline.parameters.types import LATEST
from vector_backup_pipeline.settings import API_TOKEN_VARIABLE, Settings

Responses = dict[int | str, dict[str, Any]]

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
    **{media_type.partition(";")[0]: _BYTES for media_type in MEDIA_TYPES.values()},
    DEFAULT_MEDIA_TYPE: _BYTES,
    # A range of a JSON file may not be JSON.
    "application/json": {"schema": {}, "example": {"schema_version": 2, "complete": True}},
}


def answer(code: int, data: type[ResponseData], description: str) -> Responses:
    """An answer with this HTTP status and data."""
    return {code: {"model": envelope_model(code, data), "description": description}}


def errors(*codes: int, with_body: bool = True) -> Responses:
    """Errors with these HTTP statuses."""
    responses: Responses = {}
    for code in codes:
        headers = _ERROR_HEADERS.get(code, {})
        responses[code] = {"description": HTTPStatus(code).phrase, "headers": headers}
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


def request_body(model: type[Parameters]) -> dict[str, Any]:
    """A JSON body with these parameters; optional if no parameter is required."""
    schema = model.model_json_schema()
    schema["title"] = model.__name__
    for key in model.LOCAL_FILES:
        del schema["properties"][key]
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
    """Add the access token and the timestamp format to FastAPI's document."""
    is_default = settings.timestamps.pattern == DEFAULT_TIMESTAMP_FORMAT
    stamp = _DEFAULT_STAMP if is_default else _ANY_STAMP
    latest = f"^({LATEST}|{stamp})$"
    for route in routes:
        for method in route.methods or ():
            operation = document["paths"][route.path_format][method.lower()]
            # Invalid parameters are answered with 400.
            operation["responses"].pop("422", None)
            if settings.api_token is not None and route.path == HEALTH_PATH:
                operation["security"] = []
            patterns = {"timestamp": f"^{stamp}$", "from": latest, "to": latest}
            for parameter in operation.get("parameters", ()):
                if parameter["name"] in patterns:
                    parameter["schema"]["pattern"] = patterns[parameter["name"]]
            if "requestBody" in operation:
                schema = operation["requestBody"]["content"]["application/json"]["schema"]
                patterns = {"timestamp": latest, "where_removed_since": f"^({stamp})?$"}
                for key in patterns.keys() & schema["properties"].keys():
                    schema["properties"][key]["pattern"] = patterns[key]
    for unused in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(unused, None)
    if settings.api_token is not None:
        description = f"The token of {API_TOKEN_VARIABLE}."
        document["components"]["securitySchemes"] = {
            "token": {"type": "http", "scheme": "bearer", "description": description}
        }
        document["security"] = [{"token": []}]
    return document
