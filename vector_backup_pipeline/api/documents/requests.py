"""What each address takes: the bodies, with what the engine's checks ask of their values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from vector_backup_pipeline.api.operations import BACKUP, RESTORE
from vector_backup_pipeline.engine.parameters import (
    COMPRESSION_LEVELS,
    COMPRESSIONS,
    EXPORT_METHODS,
    FORMATS,
    MOST_WORKERS,
)
from vector_backup_pipeline.engine.restore.request import (
    CONFLICT_RULES,
    MEMORY_PATTERN,
    MOST_MAINTENANCE_WORKERS,
    MOST_PROBES,
)

TASK_ID_PATTERN = "^[A-Za-z0-9_]*$"

# As `parse_table_name` takes them: name or schema.name, "…" around what holds a dot.
_QUOTED = r'"([^"\u0000]|"")+"'
_TABLE = {
    "type": "string",
    "pattern": rf'^({_QUOTED}|[^".\u0000][^.\u0000]*)(\.({_QUOTED}|[^"\u0000][^\u0000]*))?$',
}
_LEVELS = [level for levels in COMPRESSION_LEVELS.values() for level in levels]

_OF_VALUES: Mapping[str, dict[str, Any]] = {
    "task_id": {"pattern": TASK_ID_PATTERN, "examples": ["corpus_7"]},
    "db_connection": {
        "examples": ["postgresql://reader:secret@db.example.com:5432/rag"],
        "format": "password",
    },
    "tables": {
        "minItems": 1,
        "uniqueItems": True,
        "items": _TABLE,
        "examples": [["docs", "app.images"]],
    },
    "batch_size": {"minimum": 1},
    "progress_every": {"minimum": 1},
    "workers": {"minimum": 1, "maximum": MOST_WORKERS},
    "export_method": {"enum": list(EXPORT_METHODS)},
    "format": {"enum": list(FORMATS)},
    "compression": {"enum": list(COMPRESSIONS)},
    "compression_level": {"minimum": min(_LEVELS), "maximum": max(_LEVELS), "examples": [3]},
    "on_conflict": {"enum": list(CONFLICT_RULES)},
    "timestamp": {"examples": ["20250721_234914", "latest"]},
    "backup_path": {"examples": ["training_data/corpus_7/vector_bak"]},
    "rename": {
        "propertyNames": {"pattern": _TABLE["pattern"]},
        "additionalProperties": _TABLE,
        "examples": [{"docs": "restored.docs"}],
    },
    "collections": {"minItems": 1, "examples": [["handbook"]]},
    "maintenance_work_mem": {"pattern": f"^{MEMORY_PATTERN}$", "examples": ["2GB"]},
    "max_parallel_maintenance_workers": {
        "minimum": 0,
        "maximum": MOST_MAINTENANCE_WORKERS,
        "examples": [2],
    },
    "probes": {"minimum": 0, "maximum": MOST_PROBES},
}
_CONNECTION = (
    "Connection string of another database, with its host: postgresql://user:password@host:port/db "
    "or libpq's key=value form. It is sealed before Dagster stores it. Default: the "
    "installation's own."
)
_GIVEN = {"type": "string", "minLength": 1}
_LOW_LEVELS = COMPRESSION_LEVELS["gzip"]


def _never(reason: str, **values: dict[str, Any]) -> dict[str, Any]:
    """No body may have all of these values, a default counted as given."""
    return {"description": reason, "not": {"required": list(values), "properties": values}}


_BACKUP_RULES = [
    _never(
        "cursor gives values as text, and binary is COPY's own.",
        export_method={"const": "cursor"},
        format={"const": "binary"},
    ),
    {
        "description": "A level needs a compression.",
        "not": {
            "required": ["compression_level"],
            "properties": {
                "compression_level": {"type": "integer"},
                "compression": {"const": "none"},
            },
        },
    },
    _never(
        f"gzip has levels {_LOW_LEVELS[0]} to {_LOW_LEVELS[-1]}.",
        compression={"const": "gzip"},
        compression_level={"type": "integer", "minimum": _LOW_LEVELS.stop},
    ),
]
_RESTORE_RULES = [
    _never("task_id is short for a path.", task_id=_GIVEN, backup_path=_GIVEN),
    _never(
        "Truncating would wipe all other collections.",
        collections={"type": "array"},
        truncate_before_restore={"const": True},
    ),
    _never(
        "In an emptied table nothing collides.",
        truncate_before_restore={"const": True},
        on_conflict={"enum": [rule for rule in CONFLICT_RULES if rule != "fail"]},
    ),
    _never(
        "Triggers either run or don't.",
        fire_triggers={"const": True},
        disable_triggers={"const": True},
    ),
]
_BACKUP_EXAMPLES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "defaults": ("Every default", {}),
    "task": ("Into the directory of a task", {"task_id": "corpus_7"}),
    "truncate": (
        "Back up, and empty the embeddings before a re-training",
        {"task_id": "corpus_7", "truncate_vector_tables": True},
    ),
    "other_database": (
        "Some tables of another database",
        {
            "db_connection": "postgresql://reader:secret@db.example.com:5432/rag",
            "tables": ["docs", "app.images"],
        },
    ),
    "small_and_fast": (
        "Binary and compressed, for the same versions of server and pgvector",
        {"format": "binary", "compression": "zstd"},
    ),
}
_RESTORE_EXAMPLES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "latest": ("The newest complete set of the root", {"timestamp": "latest"}),
    "task": ("A set of a task", {"timestamp": "20250721_234914", "task_id": "corpus_7"}),
    "other_database": (
        "Into another database, under another name",
        {
            "timestamp": "latest",
            "task_id": "corpus_7",
            "db_connection": "postgresql://owner:secret@db.example.com:5432/rag",
            "rename": {
                "langchain_pg_collection": "restored.collections",
                "langchain_pg_embedding": "restored.embeddings",
            },
        },
    ),
    "over_what_is_there": (
        "In place of what is there",
        {"timestamp": "20250721_234914", "truncate_before_restore": True},
    ),
    "collections": (
        "One of LangChain's collections, over what is there",
        {"timestamp": "latest", "collections": ["handbook"], "on_conflict": "replace"},
    ),
}


def backup_body() -> dict[str, Any]:
    """The body of a backup, which may be missing."""
    schema = body_schema(BACKUP.body)
    schema["allOf"] = _BACKUP_RULES
    return _body(schema, _BACKUP_EXAMPLES, required=False)


def restore_body() -> dict[str, Any]:
    schema = body_schema(RESTORE.body)
    schema["required"] = ["timestamp"]
    timestamp = schema["properties"]["timestamp"]
    # Null is none, and one is required.
    timestamp.update(next(each for each in timestamp.pop("anyOf") if each["type"] != "null"))
    del timestamp["default"]
    schema["allOf"] = _RESTORE_RULES
    return _body(schema, _RESTORE_EXAMPLES, required=True)


def body_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of such a body, with what is asked of its values."""
    schema = model.model_json_schema()
    for key, told in schema["properties"].items():
        told.pop("title", None)
        of_value = dict(_OF_VALUES.get(key, {}))
        if "examples" in of_value:
            told["examples"] = of_value.pop("examples")
        plain = next((each for each in told.get("anyOf", ()) if each["type"] != "null"), told)
        plain.update(of_value)
    schema["properties"]["db_connection"]["description"] = _CONNECTION
    return schema


def _body(
    schema: dict[str, Any], examples: Mapping[str, tuple[str, dict[str, Any]]], *, required: bool
) -> dict[str, Any]:
    shown = {
        name: {"summary": summary, "value": value} for name, (summary, value) in examples.items()
    }
    content = {"application/json": {"schema": schema, "examples": shown}}
    return {"requestBody": {"required": required, "content": content}}


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
