"""The document as a whole: what the framework can't know of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fastapi.routing import APIRoute

from vector_backup_pipeline.api.access import OPEN_PATH
from vector_backup_pipeline.engine.timestamps import DEFAULT_TIMESTAMP_FORMAT
from vector_backup_pipeline.parameters.types import LATEST
from vector_backup_pipeline.settings import API_TOKEN_VARIABLE, Settings

TAGS = [
    {"name": "backup", "description": "Start a backup, follow it, cancel it."},
    {"name": "restore", "description": "Start a restore, follow it, cancel it."},
    {"name": "files", "description": "Which backups are there, and their files."},
    {"name": "health", "description": "Whether runs would begin."},
]
# Of the timestamps that the installation writes. Any is at least safe in a file's name.
_STAMPS: Mapping[str, str] = {
    DEFAULT_TIMESTAMP_FORMAT: "[1-9][0-9]{3}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])"
    "_([01][0-9]|2[0-3])[0-5][0-9][0-5][0-9]"
}
_ANY_STAMP = "[A-Za-z0-9_-]+"


def complete_document(
    document: dict[str, Any], routes: Iterable[APIRoute], settings: Settings
) -> dict[str, Any]:
    """The framework's `document` of those routes, completed in place: with whole examples, without
    the 422 that is never answered, with the token if one is needed and the form of timestamps."""
    _put_examples_back(document, routes)
    stamp = _STAMPS.get(settings.timestamps.pattern, _ANY_STAMP)
    for path, methods in document["paths"].items():
        for operation in methods.values():
            operation["responses"].pop("422", None)
            if settings.api_token is not None and path == OPEN_PATH:
                operation["security"] = []
            for parameter in operation.get("parameters", ()):
                if parameter["name"] == "timestamp":
                    parameter["schema"]["pattern"] = f"^{stamp}$"
            body = operation.get("requestBody")
            if body is not None:
                taken = body["content"]["application/json"]["schema"]["properties"]
                if "timestamp" in taken:
                    taken["timestamp"]["pattern"] = f"^({LATEST}|{stamp})$"
    for unused in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(unused, None)
    if settings.api_token is not None:
        document["components"]["securitySchemes"] = {
            "token": {
                "type": "http",
                "scheme": "bearer",
                "description": f"The token of {API_TOKEN_VARIABLE}.",
            }
        }
        document["security"] = [{"token": []}]
    return document


def _put_examples_back(document: dict[str, Any], routes: Iterable[APIRoute]) -> None:
    """The framework leaves out what is null, in examples too."""
    for route in routes:
        for method in route.methods or ():
            told = document["paths"].get(route.path, {}).get(method.lower(), {})
            for code, answer in route.responses.items():
                for kind, content in answer.get("content", {}).items():
                    if "examples" in content and str(code) in told.get("responses", {}):
                        there = told["responses"][str(code)]["content"][kind]
                        there["examples"] = content["examples"]
