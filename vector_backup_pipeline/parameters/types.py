"""Types of parameters that several operations have, with their limits and descriptions."""

import os
import re
from collections.abc import Mapping
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, SecretStr, Strict

from vector_backup_pipeline.engine.errors import Problem, parameter_error
from vector_backup_pipeline.parameters.model import ANY, Exclusion, Shown
from vector_backup_pipeline.parameters.table_names import TABLE_PATTERN, check_different

ExportMethod = Literal["copy", "cursor"]
Format = Literal["csv", "binary"]
Compression = Literal["none", "gzip", "zstd"]
BackupMode = Literal["full", "incremental", "auto"]
OnConflict = Literal["fail", "skip", "replace"]
FORMATS: tuple[Format, ...] = get_args(Format)
COMPRESSIONS: tuple[Compression, ...] = get_args(Compression)

# The default is the first level, the fast one: slower ones hardly make vectors smaller.
COMPRESSION_LEVELS: Mapping[str, range] = {"gzip": range(1, 10), "zstd": range(1, 23)}
LATEST = "latest"
# A connection is a server process: with more, a backup takes cores from the server's queries.
DEFAULT_WORKERS = min(4, os.cpu_count() or 1)
MAX_WORKERS = 64
DEFAULT_PROBES = 5
DEFAULT_PROGRESS_EVERY = 50_000
# With a prefix and a suffix, a name must fit into the 255 bytes of a file's.
TASK_ID_PATTERN = "^[A-Za-z0-9_]{0,200}$"


CONNECTION_FORM = (
    "a URL, or libpq's 'host=db dbname=rag'. Dagster stores run config as plain text: use "
    '{"env": "NAME"} there. The REST API encrypts it. Other processes can see command lines.'
)


def is_task_id(text: str) -> bool:
    return text != "" and re.fullmatch(TASK_ID_PATTERN, text) is not None


def check_task_id(task_id: str | None) -> None:
    """Raise `InvalidParams` unless it is None or can be a task's."""
    if task_id is not None and not is_task_id(task_id):
        text = f"is {task_id[:40]!r}; it must be 1 to 200 ASCII letters, digits and '_'."
        raise parameter_error([Problem(("task_id",), text)])


TableText = Annotated[str, Field(pattern=TABLE_PATTERN)]
Tables = Annotated[
    tuple[TableText, ...],
    Strict(False),
    Field(min_length=1, json_schema_extra={"uniqueItems": True}),
    AfterValidator(check_different),
]
Names = Annotated[tuple[str, ...], Strict(False), Field(min_length=1)]
# The set that a command is about.
SetName = Annotated[str, Field(examples=["20250721_234914", LATEST]), Shown(is_set=True)]
TaskId = Annotated[
    str | None,
    Field(
        pattern=TASK_ID_PATTERN,
        description="Task whose directory, {root}/{task_id}/, holds the sets. ASCII letters, "
        "digits and '_', at most 200.",
        examples=["corpus_7"],
    ),
]
BackupPath = Annotated[
    str | None,
    Field(
        max_length=4096,
        pattern="^[^/]{0,255}(/[^/]{0,255})*$",
        description="Directory of the sets: relative to the root's parent, or absolute under the "
        "root.",
        examples=["training_data/corpus_7/vector_bak"],
    ),
]
SourceDatabase = Annotated[
    str | None,
    Field(
        description="Consider only sets of this source database, as shown by vector-backup list: "
        "its name, or {system_identifier}/{name} if several servers have a database of that name.",
        examples=["rag"],
    ),
]
Connection = Annotated[
    SecretStr | None,
    Field(
        description=f"Connection string of the database: {CONNECTION_FORM}",
        examples=["postgresql://reader:secret@db.example.com:5432/rag"],
    ),
    Shown(default="VECTOR_BACKUP_DB_URL"),
]
Workers = Annotated[
    int,
    Field(
        ge=1,
        le=MAX_WORKERS,
        description=f"Parallel connections, at most {MAX_WORKERS}.",
        examples=[4],
    ),
]
# Each search scans the whole table once for the exact answer.
Probes = Annotated[
    int,
    Field(
        ge=0,
        le=1000,
        description="Number of searches that measure the recall@10 of each vector index; 0: none.",
        examples=[20],
    ),
]
ProgressEvery = Annotated[
    int, Field(ge=1, le=10**9, description="Rows between progress events.", examples=[10_000])
]

ONE_LOCATION = Exclusion(
    {"task_id": ANY, "backup_path": ANY}, "both specify the location. Give one of them."
)
