"""The parameters of a restore."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar

from pydantic import AfterValidator, ConfigDict, Field, WithJsonSchema
from pydantic.config import JsonDict

from vector_backup_pipeline.engine.errors import Problem
from vector_backup_pipeline.parameters.model import Example, Parameters, Shown
from vector_backup_pipeline.parameters.table_names import (
    TABLE_PATTERN,
    TableName,
    parse_table_name,
)
from vector_backup_pipeline.parameters.types import (
    CONNECTION_FORM,
    DEFAULT_WORKERS,
    LATEST,
    BackupPath,
    Connection,
    Names,
    OnConflict,
    Probes,
    ProgressEvery,
    SourceDatabase,
    Tables,
    TableText,
    TaskId,
    Workers,
    two_locations,
)

DEFAULT_PROBES = 5
# The server counts kB in 31 bits.
MEMORY_PATTERN = "([1-9][0-9]{0,8}kB|[1-9][0-9]{0,5}MB|[1-9][0-9]{0,2}GB|1TB)"

_LONGEST_NAME = 63  # NAMEDATALEN - 1, as PostgreSQL is built everywhere
_MEMORY = re.compile(MEMORY_PATTERN)


def _memory(text: str | None) -> str | None:
    if text is not None and not _MEMORY.fullmatch(text):
        raise ValueError(
            f"is {text[:40]!r}; write a number and kB, MB or GB, such as '2GB'; at most 1TB."
        )
    return text


def _rename(rename: Mapping[str, str]) -> Mapping[str, str]:
    targets: dict[TableName, str] = {}
    for old, new in rename.items():
        target = parse_table_name(new)
        for part in (target.schema, target.name):
            # The server would cut a longer name, and create another table.
            if part is not None and len(part.encode()) > _LONGEST_NAME:
                raise ValueError(
                    f"leads to {new!r}, but {part!r} has {len(part.encode())} bytes; a name may "
                    f"have {_LONGEST_NAME}."
                )
        if target in targets:
            raise ValueError(
                f"leads {old!r} and {targets[target]!r} both to {new!r}. Give each table a name "
                "of its own."
            )
        targets[target] = old
    return rename


_GIVEN: JsonDict = {"type": "string", "minLength": 1}


class RestoreParameters(Parameters):
    """What may be asked of a restore."""

    model_config = ConfigDict(
        json_schema_extra={
            "allOf": [
                {
                    "description": "task_id is a shorthand for a path.",
                    "not": {
                        "required": ["task_id", "backup_path"],
                        "properties": {"task_id": _GIVEN, "backup_path": _GIVEN},
                    },
                },
                {
                    "description": "Truncating would remove all other collections.",
                    "not": {
                        "required": ["collections", "truncate_before_restore"],
                        "properties": {
                            "collections": {"type": "array"},
                            "truncate_before_restore": {"const": True},
                        },
                    },
                },
                {
                    "description": "Triggers either run or are disabled.",
                    "not": {
                        "required": ["fire_triggers", "disable_triggers"],
                        "properties": {
                            "fire_triggers": {"const": True},
                            "disable_triggers": {"const": True},
                        },
                    },
                },
                {
                    "description": "No key exists in an emptied table.",
                    "not": {
                        "required": ["truncate_before_restore", "on_conflict"],
                        "properties": {
                            "truncate_before_restore": {"const": True},
                            "on_conflict": {"enum": ["skip", "replace"]},
                        },
                    },
                },
            ]
        }
    )
    EXAMPLES: ClassVar[dict[str, Example]] = {
        "latest": Example("The newest complete set of the root", {"timestamp": LATEST}),
        "task": Example("A set of a task", {"timestamp": "20250721_234914", "task_id": "corpus_7"}),
        "other_database": Example(
            "Into another database, under another name",
            {
                "timestamp": LATEST,
                "task_id": "corpus_7",
                "db_connection": "postgresql://owner:secret@db.example.com:5432/rag",
                "rename": {
                    "langchain_pg_collection": "restored.collections",
                    "langchain_pg_embedding": "restored.embeddings",
                },
            },
        ),
        "over_what_is_there": Example(
            "In place of the existing rows",
            {"timestamp": "20250721_234914", "truncate_before_restore": True},
        ),
        "collections": Example(
            "One of LangChain's collections, over the existing rows",
            {"timestamp": LATEST, "collections": ["handbook"], "on_conflict": "replace"},
        ),
    }

    timestamp: Annotated[str, Shown(metavar="STAMP")] = Field(
        description="Backup set to restore: its timestamp, such as 20250721_234914, or latest for "
        "the newest complete one. vector-backup list shows the sets.",
        examples=["20250721_234914", LATEST],
        min_length=1,
    )
    source_database: Annotated[
        SourceDatabase, Shown(default="the only one with sets, else the target")
    ] = Field(
        default=None,
        description="Database whose newest set latest is, as vector-backup list shows it: its "
        "name, or {system_identifier}/{name} if servers share the name.",
    )
    backup_path: Annotated[BackupPath, Shown(default="the root's own directory")] = Field(
        default=None,
        description="Directory of the set: relative to the root's parent, or absolute under the "
        "root.",
    )
    task_id: TaskId = Field(
        default=None, description="Task whose directory holds the set; a shorthand for its path."
    )
    db_connection: Annotated[Connection, Shown(default="VECTOR_BACKUP_DB_URL")] = Field(
        default=None,
        description=f"Connection string of the database to restore into: {CONNECTION_FORM}",
    )
    tables: Annotated[Tables | None, Shown(metavar="A,B", default="all")] = Field(
        default=None,
        description="Tables of the set to restore.",
        examples=[["docs", "app.images"]],
    )
    truncate_before_restore: bool = Field(
        default=False, description="Empty the target tables first, in the same transaction."
    )
    on_conflict: OnConflict = Field(
        default="fail",
        description="If the key of a row exists in the target: fail (nothing is restored), skip "
        "the row, or replace the existing one.",
        examples=["skip"],
    )
    rename: Annotated[
        Annotated[
            dict[TableText, TableText],
            AfterValidator(_rename),
            WithJsonSchema(
                {
                    "type": "object",
                    "propertyNames": {"pattern": TABLE_PATTERN},
                    "additionalProperties": {"type": "string", "pattern": TABLE_PATTERN},
                }
            ),
        ],
        Shown(metavar="OLD=NEW"),
    ] = Field(
        default={},
        description="Other names for tables in the target: name or schema.name.",
        examples=[{"docs": "restored.docs"}],
    )
    collections: Annotated[Names | None, Shown(metavar="A,B", default="all")] = Field(
        default=None,
        description="Restore only these of LangChain's collections, with their embeddings.",
        examples=[["handbook"]],
    )
    fire_triggers: bool = Field(
        default=False,
        description="Let the triggers of the target tables run. Without it, a table with triggers "
        "that a restored row would fire is refused.",
    )
    disable_triggers: bool = Field(
        default=False,
        description="Load without the triggers of the target tables, which takes the tables' owner "
        "or a superuser.",
    )
    allow_other_versions: bool = Field(
        default=False,
        description="Accept binary files of another version of PostgreSQL or pgvector.",
    )
    workers: Workers = Field(
        default=DEFAULT_WORKERS,
        description="Parallel connections if all tables are new in the target, at most 64.",
    )
    maintenance_work_mem: Annotated[
        str | None, AfterValidator(_memory), Shown(metavar="SIZE", default="the server's")
    ] = Field(
        default=None,
        description="Memory for building an index.",
        examples=["2GB"],
        json_schema_extra={"pattern": f"^{MEMORY_PATTERN}$"},
    )
    max_parallel_maintenance_workers: Annotated[
        int | None, Shown(metavar="N", default="the server's")
    ] = Field(
        default=None,
        ge=0,
        le=1024,
        description="Processes that help to build an index.",
        examples=[2],
    )
    probes: Probes = Field(
        default=DEFAULT_PROBES,
        description="Searches that measure the recall@10 of each vector index; 0: none.",
    )
    progress_every: ProgressEvery = 50_000

    @property
    def selects_rows(self) -> bool:
        return self.collections is not None

    @property
    def loads_every_row_as_it_is(self) -> bool:
        """Whether each row of the files goes into the target, so that digests can be compared."""
        return self.on_conflict == "fail" and not self.selects_rows

    def conflicts(self) -> Iterator[Problem]:
        yield from two_locations(self.task_id, self.backup_path)
        if self.collections is not None and self.truncate_before_restore:
            yield Problem(
                ("collections", "truncate_before_restore"),
                "exclude each other: truncating would remove all other collections. To put some "
                "collections back over the existing rows, use on_conflict 'replace'.",
            )
        if self.fire_triggers and self.disable_triggers:
            yield Problem(
                ("fire_triggers", "disable_triggers"), "exclude each other. Give one of them."
            )
        if self.truncate_before_restore and self.on_conflict != "fail":
            yield Problem(
                ("on_conflict", "truncate_before_restore"),
                f"exclude each other: {self.on_conflict!r} has no meaning in an emptied table, "
                "where nothing collides. Give one of them.",
            )
