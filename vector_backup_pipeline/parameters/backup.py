"""The parameters of a backup, and those of a check of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field

from vector_backup_pipeline.engine.errors import Problem
from vector_backup_pipeline.parameters.model import Example, Parameters, Shown
from vector_backup_pipeline.parameters.table_names import parse_table_name
from vector_backup_pipeline.parameters.types import (
    COMPRESSION_LEVELS,
    CONNECTION_FORM,
    DEFAULT_WORKERS,
    Compression,
    Connection,
    ExportMethod,
    Format,
    ProgressEvery,
    Tables,
    TaskId,
    Workers,
)

_GZIP_LEVELS, _ZSTD_LEVELS = COMPRESSION_LEVELS["gzip"], COMPRESSION_LEVELS["zstd"]


class CheckParameters(Parameters):
    """What a backup needs that can be tried without making one."""

    task_id: TaskId = Field(
        default=None,
        description="Task whose directory {root}/{task_id}/ takes the backup. The directory must "
        "exist; letters, digits and '_'.",
    )
    db_connection: Annotated[Connection, Shown(default="VECTOR_BACKUP_DB_URL")] = Field(
        default=None, description=f"Connection string of the database to back up: {CONNECTION_FORM}"
    )
    tables: Annotated[
        Tables | None,
        Shown(metavar="A,B", default="VECTOR_BACKUP_TABLES, else LangChain's two tables"),
    ] = Field(
        default=None,
        description="Tables to back up: name or schema.name, as the database spells them.",
        examples=[["docs", "app.images"]],
    )
    workers: Workers = Field(
        default=DEFAULT_WORKERS, description="Parallel connections for each table, at most 64."
    )
    export_method: ExportMethod = Field(
        default="copy",
        description="How rows are read: copy, or cursor for servers and proxies that refuse COPY. "
        "The bytes are the same.",
        examples=["cursor"],
    )


class BackupParameters(CheckParameters):
    """What may be asked of a backup."""

    model_config = ConfigDict(
        json_schema_extra={
            "allOf": [
                {
                    "description": "cursor returns values as text, and binary is COPY's own.",
                    "not": {
                        "required": ["export_method", "format"],
                        "properties": {
                            "export_method": {"const": "cursor"},
                            "format": {"const": "binary"},
                        },
                    },
                },
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
                {
                    "description": f"gzip has levels {_GZIP_LEVELS[0]} to {_GZIP_LEVELS[-1]}.",
                    "not": {
                        "required": ["compression", "compression_level"],
                        "properties": {
                            "compression": {"const": "gzip"},
                            "compression_level": {
                                "type": "integer",
                                "minimum": _GZIP_LEVELS.stop,
                            },
                        },
                    },
                },
            ]
        }
    )
    EXAMPLES: ClassVar[dict[str, Example]] = {
        "defaults": Example("Every default", {}),
        "task": Example("Into the directory of a task", {"task_id": "corpus_7"}),
        "truncate": Example(
            "Back up, and empty the embeddings before re-training",
            {"task_id": "corpus_7", "truncate_vector_tables": True},
        ),
        "other_database": Example(
            "Some tables of another database",
            {
                "db_connection": "postgresql://reader:secret@db.example.com:5432/rag",
                "tables": ["docs", "app.images"],
            },
        ),
        "small_and_fast": Example(
            "Binary and compressed, for the same versions of server and pgvector",
            {"format": "binary", "compression": "zstd"},
        ),
    }

    truncate_vector_tables: Annotated[bool, Shown("--truncate")] = Field(
        default=False,
        description="Empty the truncate tables (VECTOR_BACKUP_TRUNCATE_TABLES) after a complete, "
        "verified backup. Turns the backup on if it was off.",
    )
    backup_vector_tables: Annotated[
        bool,
        Shown(
            "--no-backup",
            "Only check the parameters. --truncate makes a backup all the same. Default: off.",
        ),
    ] = Field(
        default=True,
        description="Make the backup. If this is false and nothing is to be truncated, the run "
        "only checks the parameters, and the result says so.",
    )
    format: Format = Field(
        default="csv",
        description="csv loads anywhere. binary is COPY's own: a third of the size, several times "
        "as fast, for the same versions of server and pgvector.",
        examples=["binary"],
    )
    compression: Compression = Field(
        default="none",
        description="How the files are compressed; zstd is the faster one.",
        examples=["zstd"],
    )
    compression_level: Annotated[int | None, Shown(metavar="N", default="1, fast")] = Field(
        default=None,
        ge=_ZSTD_LEVELS[0],
        le=_ZSTD_LEVELS[-1],
        description=f"Level of the compression: gzip {_GZIP_LEVELS[0]} to {_GZIP_LEVELS[-1]}, zstd "
        f"{_ZSTD_LEVELS[0]} to {_ZSTD_LEVELS[-1]}.",
        examples=[3],
    )
    batch_size: Annotated[int, Shown(metavar="N")] = Field(
        default=10_000,
        ge=1,
        le=1_000_000,
        description="Maximum rows per fetch of export_method cursor. Fewer for wide rows, so that "
        "a fetch stays within a few MB.",
        examples=[2000],
    )
    progress_every: ProgressEvery = 50_000

    def conflicts(self) -> Iterator[Problem]:
        level, levels = self.compression_level, COMPRESSION_LEVELS.get(self.compression)
        if level is not None and levels is None:
            text = f"is {level}, but compression is 'none'. Leave it out, or choose a compression."
            yield Problem(("compression_level",), text)
        elif level is not None and levels is not None and level not in levels:
            text = f"must be from {levels[0]} to {levels[-1]}."
            yield Problem(("compression_level",), f"is {level}; with {self.compression} it {text}")
        if (self.export_method, self.format) == ("cursor", "binary"):
            yield Problem(
                ("export_method", "format"),
                "exclude each other: cursor returns values as text, and format 'binary' is COPY's "
                "own. Use copy with binary, or cursor with csv.",
            )

    def with_tables(
        self, tables: tuple[str, ...], truncate_tables: tuple[str, ...]
    ) -> BackupRequest:
        """The parameters, with the tables that the settings name where the caller names none.

        Raises:
            InvalidParams: a table would be truncated that is not backed up.
        """
        given: dict[str, Any] = dict(self)
        return BackupRequest(
            **{**given, "tables": self.tables or tables, "truncate_tables": truncate_tables}
        )


class BackupRequest(BackupParameters):
    """The parameters of one run, with what the settings add to them."""

    tables: Tables
    truncate_tables: tuple[str, ...]

    @property
    def does_nothing(self) -> bool:
        return not (self.backup_vector_tables or self.truncate_vector_tables)

    @property
    def tables_to_truncate(self) -> tuple[str, ...]:
        """The tables to empty, spelled as in `tables`; none if the caller did not ask for it."""
        if not self.truncate_vector_tables:
            return ()
        wanted = {parse_table_name(table) for table in self.truncate_tables}
        return tuple(table for table in self.tables if parse_table_name(table) in wanted)

    def conflicts(self) -> Iterator[Problem]:
        yield from super().conflicts()
        if not self.truncate_vector_tables:
            return
        key = ("truncate_vector_tables",)
        if not self.truncate_tables:
            yield Problem(
                key,
                "is set, but no table is set to be truncated. Name them in "
                "VECTOR_BACKUP_TRUNCATE_TABLES.",
            )
        exported = {parse_table_name(table) for table in self.tables}
        for table in self.truncate_tables:
            if parse_table_name(table) not in exported:
                yield Problem(
                    key,
                    f"would empty the table {table!r}, which is not among the tables of this run "
                    f"({', '.join(self.tables)}). A table is only truncated after a complete "
                    "backup of it in the same run: add it to the tables in the same spelling, or "
                    "don't truncate.",
                )
