"""What each address takes: the bodies, made from the models of the parameters."""

from __future__ import annotations

from typing import Any

from vector_backup_pipeline.parameters.model import Parameters


def request_body(model: type[Parameters]) -> dict[str, Any]:
    """The body with these parameters, which may be missing if none of them is required."""
    schema = model.model_json_schema()
    schema["title"] = model.__name__
    for told in schema["properties"].values():
        told.pop("title", None)
    examples = {
        name: {"summary": example.summary, "value": example.given}
        for name, example in model.EXAMPLES.items()
    }
    content = {"application/json": {"schema": schema, "examples": examples}}
    return {"requestBody": {"required": "required" in schema, "content": content}}


def _header(name: str, description: str, example: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "description": description,
        "schema": {"type": "string"},
        "example": example,
    }


DOWNLOAD_HEADERS = [
    _header("Range", "One range of bytes; the whole file for several.", "bytes=0-99"),
    _header("If-Range", "An ETag: the range of that version, else the whole file.", '"1f-5c2a"'),
    _header("If-None-Match", "An ETag: 304 if the file has not changed.", '"1f-5c2a"'),
]
