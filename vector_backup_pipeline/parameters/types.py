"""Types of parameters that several operations have, with their limits."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, SecretStr, Strict, WithJsonSchema

from vector_backup_pipeline.engine.errors import Problem, parameter_error
from vector_backup_pipeline.parameters.model import Shown
from vector_backup_pipeline.parameters.table_names import (
    TABLE_PATTERN,
    check_different,
    check_table_name,
)

ExportMethod = Literal["copy", "cursor"]
Format = Literal["csv", "binary"]
Compression = Literal["none", "gzip", "zstd"]
OnConflict = Literal["fail", "skip", "replace"]
FORMATS: tuple[Format, ...] = get_args(Format)
COMPRESSIONS: tuple[Compression, ...] = get_args(Compression)

# The first level, the fast one, is the default: vectors hardly get smaller with a slower one.
COMPRESSION_LEVELS: Mapping[str, range] = {"gzip": range(1, 10), "zstd": range(1, 23)}
LATEST = "latest"
CONNECTION_FORM = (
    "a URL, or libpq's 'host=db dbname=rag'. Dagster stores what is typed into a run config: write "
    '{"env": "NAME"} there. The REST API encrypts it. Other processes can see a command line.'
)
# A connection is a server process: past a few a backup only takes cores from the queries it shares
# the server with.
DEFAULT_WORKERS = min(4, os.cpu_count() or 1)
MOST_WORKERS = 64
# Each search scans the whole table once for the exact answer.
MOST_PROBES = 1000
# With what is put before and after it, a name must fit into the 255 bytes of a file's.
MOST_TASK_LETTERS = 200
MOST_PATH_BYTES, MOST_NAME_BYTES = 4096, 255

TASK_ID_PATTERN = f"^[A-Za-z0-9_]{{0,{MOST_TASK_LETTERS}}}$"
_TASK_ID = re.compile(f"[A-Za-z0-9_]{{1,{MOST_TASK_LETTERS}}}")


def is_task_id(text: str) -> bool:
    return _TASK_ID.fullmatch(text) is not None


def check_task_id(task_id: str | None) -> None:
    """Raise `InvalidParams` for what can't be a task's."""
    if task_id is not None and not is_task_id(task_id):
        raise parameter_error([Problem(("task_id",), _not_a_task(task_id))])


def _not_a_task(text: str) -> str:
    shown = f"{text[:40]!r}…" if len(text) > MOST_TASK_LETTERS else repr(text)
    return (
        f"is {shown}, which is not valid: only ASCII letters, digits and '_' are allowed, at most "
        f"{MOST_TASK_LETTERS} of them."
    )


def two_locations(task_id: str | None, backup_path: str | None) -> Iterator[Problem]:
    if task_id is not None and backup_path is not None:
        yield Problem(
            ("task_id", "backup_path"),
            "are both given; a task is a shorthand for a path. Give one of them.",
        )


def _task_id(text: str | None) -> str | None:
    if not text:
        return None
    if not is_task_id(text):
        raise ValueError(_not_a_task(text))
    return text


def _path(text: str | None) -> str | None:
    if not text:
        return None
    parts = [len(part.encode()) for part in text.split("/")]
    if max(parts) > MOST_NAME_BYTES or sum(parts) > MOST_PATH_BYTES:
        raise ValueError(
            f"is too long: at most {MOST_PATH_BYTES} bytes are allowed, and "
            f"{MOST_NAME_BYTES} for each directory."
        )
    return text


def _tables(tables: tuple[str, ...]) -> tuple[str, ...]:
    check_different(tables)
    return tables


TableText = Annotated[
    str,
    AfterValidator(check_table_name),
    WithJsonSchema({"type": "string", "pattern": TABLE_PATTERN}),
]
Tables = Annotated[
    tuple[TableText, ...],
    Strict(False),
    Field(min_length=1, json_schema_extra={"uniqueItems": True}),
    AfterValidator(_tables),
]
Names = Annotated[tuple[str, ...], Strict(False), Field(min_length=1)]
TaskId = Annotated[
    str | None,
    AfterValidator(_task_id),
    Field(json_schema_extra={"pattern": TASK_ID_PATTERN}, examples=["corpus_7"]),
    Shown(metavar="ID"),
]
BackupPath = Annotated[
    str | None,
    AfterValidator(_path),
    Field(examples=["training_data/corpus_7/vector_bak"]),
    Shown(metavar="PATH"),
]
SourceDatabase = Annotated[
    str | None,
    AfterValidator(lambda text: text or None),
    Field(examples=["rag"]),
    Shown(metavar="NAME"),
]
Connection = Annotated[
    SecretStr | None,
    Field(examples=["postgresql://reader:secret@db.example.com:5432/rag"]),
    Shown(metavar="STRING"),
]
Workers = Annotated[int, Field(ge=1, le=MOST_WORKERS, examples=[4]), Shown(metavar="N")]
Probes = Annotated[int, Field(ge=0, le=MOST_PROBES, examples=[20]), Shown(metavar="N")]
ProgressEvery = Annotated[
    int,
    Field(
        ge=1,
        le=1_000_000_000,
        description="Rows between progress events.",
        examples=[10_000],
    ),
    Shown(metavar="N"),
]
