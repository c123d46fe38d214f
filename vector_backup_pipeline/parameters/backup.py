"""The parameters of a backup, and those of a check of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from vector_backup_pipeline.engine.errors import Problem
from vector_backup_pipeline.parameters import types
from vector_backup_pipeline.parameters.durations import DURATION_PATTERN
from vector_backup_pipeline.parameters.model import ANY, Exclusion, Parameters, Shown
from vector_backup_pipeline.parameters.table_names import parse_table_name

_GZIP, _ZSTD = types.COMPRESSION_LEVELS["gzip"], types.COMPRESSION_LEVELS["zstd"]


class CheckParameters(Parameters):
    """The parameters of a backup that can be checked without making one."""

    task_id: types.TaskId = Field(
        None,
        description="Task in whose directory, {root}/{task_id}/, the backup is made. The directory "
        "must exist. ASCII letters, digits and '_', at most 200.",
    )
    db_connection: types.Connection = None
    tables: Annotated[
        types.Tables | None, Shown(default="VECTOR_BACKUP_TABLES, else LangChain's two tables")
    ] = Field(None, examples=[["docs", "app.images"]])
    """Tables to back up: name or schema.name, case-sensitive."""
    workers: types.Workers = types.DEFAULT_WORKERS
    export_method: types.ExportMethod = Field("copy", examples=["cursor"])
    """How rows are read: copy, or cursor for servers and proxies that do not support COPY. Both
    produce the same files."""


class BackupParameters(CheckParameters):
    """The parameters of a backup."""

    EXAMPLES: ClassVar[dict[str, Any]] = {
        "Every default": {},
        "Back up, then truncate the embeddings": {
            "task_id": "corpus_7",
            "truncate_vector_tables": True,
        },
    }
    EXCLUSIONS = (
        Exclusion(
            {"export_method": ["cursor"], "format": ["binary"]},
            "cursor returns values as text, but format 'binary' needs COPY. Use copy with binary, "
            "or cursor with csv.",
        ),
        Exclusion(
            {"compression_level": ANY, "compression": ["none"]},
            "a level needs a compression. Choose one, or omit the level.",
        ),
        Exclusion(
            {"compression_level": _ZSTD[len(_GZIP) :], "compression": ["gzip"]},
            f"gzip has levels {_GZIP[0]} to {_GZIP[-1]}.",
        ),
    )

    truncate_vector_tables: Annotated[bool, Shown("--truncate")] = False
    """Truncate the tables of VECTOR_BACKUP_TRUNCATE_TABLES after a complete, verified backup.
    Implies backup_vector_tables."""
    backup_vector_tables: Annotated[
        bool,
        Shown(
            "--no-backup", "Only check the parameters. Has no effect with --truncate. Default: off."
        ),
    ] = True
    """Make a backup. If this and truncate_vector_tables are false, the run only checks the
    parameters."""
    format: Annotated[types.Format | None, Shown(default="VECTOR_BACKUP_FORMAT, else csv")] = Field(
        None, examples=["binary"]
    )
    """Format of the files. Any version can load csv. binary is COPY's binary format: a third of the
    size, several times as fast, but only for the same versions of PostgreSQL and pgvector."""
    compression: Annotated[
        types.Compression | None, Shown(default="VECTOR_BACKUP_COMPRESSION, else none")
    ] = Field(None, examples=["zstd"])
    """Compression of the files. zstd is faster than gzip."""
    compression_level: Annotated[int | None, Shown(default="1, fast")] = Field(
        default=None,
        ge=_ZSTD[0],
        le=_ZSTD[-1],
        description=f"Compression level: gzip {_GZIP[0]} to {_GZIP[-1]}, zstd {_ZSTD[0]} to "
        f"{_ZSTD[-1]}.",
        examples=[3],
    )
    mode: Annotated[types.BackupMode | None, Shown(default="VECTOR_BACKUP_MODE, else full")] = (
        Field(None, examples=["auto"])
    )
    """full exports every row, incremental only the rows changed since the last set. incremental
    fails with the reason if a full backup is needed; auto makes it."""
    full_every: Annotated[str | None, Shown(default="VECTOR_BACKUP_FULL_EVERY, else 7d")] = Field(
        None, pattern=DURATION_PATTERN, examples=["14d"]
    )
    """With mode auto, the age of a chain's full set after which the next backup is full: years,
    months, days and hours, such as 7d or 36h."""
    batch_size: int = Field(10_000, ge=1, le=1_000_000, examples=[2000])
    """Maximum rows per FETCH with export_method cursor. Use fewer for wide rows, so that each FETCH
    stays within a few MB."""
    progress_every: types.ProgressEvery = types.DEFAULT_PROGRESS_EVERY

    @property
    def fetched_rows(self) -> int | None:
        """The rows per FETCH, None without a cursor."""
        return self.batch_size if self.export_method == "cursor" else None

    def completed(self, defaults: Mapping[str, Any]) -> BackupRequest:
        """The parameters with the settings' defaults where the caller gave none. Raises
        `InvalidParams` if the combination is invalid, such as a truncated table that is not backed
        up."""
        own = {key: value for key, value in self if value is not None}
        return BackupRequest(**{**defaults, **own})


class BackupRequest(BackupParameters):
    """The parameters of one run, completed by the settings."""

    tables: types.Tables
    truncate_tables: tuple[str, ...]
    format: types.Format = "csv"
    compression: types.Compression = "none"
    mode: types.BackupMode = "full"
    full_every: str = "7d"

    @property
    def does_nothing(self) -> bool:
        return not (self.backup_vector_tables or self.truncate_vector_tables)

    @property
    def tables_to_truncate(self) -> tuple[str, ...]:
        """The tables to empty, spelled as in `tables`; none unless requested."""
        if not self.truncate_vector_tables:
            return ()
        names = {parse_table_name(table) for table in self.truncate_tables}
        return tuple(table for table in self.tables if parse_table_name(table) in names)

    def conflicts(self) -> Iterator[Problem]:
        yield from super().conflicts()
        exported = {parse_table_name(table) for table in self.tables}
        for table in self.truncate_tables if self.truncate_vector_tables else ():
            if parse_table_name(table) not in exported:
                yield Problem(
                    ("truncate_vector_tables",),
                    f"would empty the table {table!r}, which is not among the tables of this run "
                    f"({', '.join(self.tables)}). A table is only truncated after a complete "
                    "backup of it in the same run: add it to the tables, or do not truncate.",
                )
