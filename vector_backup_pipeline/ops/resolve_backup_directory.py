"""Check the parameters, find the directory, take the run's timestamp."""

import dagster as dg
from pydantic import Field

from vector_backup_pipeline.engine.backup.run import BackupRun, BackupTarget
from vector_backup_pipeline.engine.parameters import (
    COMPRESSIONS,
    DEFAULT_BATCH_SIZE,
    DEFAULT_PROGRESS_EVERY,
    DEFAULT_WORKERS,
    FORMATS,
    BackupRequest,
    check_choice,
)
from vector_backup_pipeline.outcome import failing_step, place_metadata
from vector_backup_pipeline.resources import BackupRunResource, BackupStorageResource
from vector_backup_pipeline.settings import Settings, load_settings


class BackupParameters(dg.Config):
    """What may be asked of a backup; the same keys as the API's body."""

    task_id: str | None = Field(
        default=None,
        description="Back up under {root}/{task_id}/, which must exist. Letters, digits, '_'.",
    )
    truncate_vector_tables: bool = Field(
        default=False,
        description="Empty the truncate tables after a complete, verified backup. Switches the "
        "backup on if it was off.",
    )
    backup_vector_tables: bool = Field(
        default=True, description="False, and no truncate: nothing is done."
    )
    tables: list[str] | None = Field(
        default=None,
        description="name or schema.name, as the database spells them. Default: "
        "VECTOR_BACKUP_TABLES, else LangChain's two tables.",
    )
    batch_size: int = Field(
        default=DEFAULT_BATCH_SIZE, description="Rows a fetch at most (export_method cursor)."
    )
    progress_every: int = Field(
        default=DEFAULT_PROGRESS_EVERY, description="Rows between progress events."
    )
    workers: int = Field(
        default=DEFAULT_WORKERS, description="Parallel connections inside one table."
    )
    export_method: str = Field(
        default="copy",
        description="copy, or cursor for servers and proxies that refuse COPY. Same bytes.",
    )
    format: str = Field(
        default="csv",
        description="csv, which loads anywhere, or binary (COPY's own), which is a third of the "
        "size and several times as fast, for the same versions of server and pgvector.",
    )
    compression: str = Field(
        default="none", description="none, gzip or zstd: block by block, in the workers."
    )
    compression_level: int | None = Field(
        default=None,
        description="Level of the compression: gzip 1 to 9, zstd 1 to 22. Default: 1, fast.",
    )

    def request(self, settings: Settings) -> BackupRequest:
        """The parameters, with the settings' defaults, checked.

        Raises:
            InvalidParams: one of them does not make sense.
        """
        return BackupRequest(
            task_id=self.task_id or None,
            truncate_vector_tables=self.truncate_vector_tables,
            backup_vector_tables=self.backup_vector_tables,
            tables=settings.tables if self.tables is None else tuple(self.tables),
            truncate_tables=settings.truncate_tables,
            batch_size=self.batch_size,
            progress_every=self.progress_every,
            workers=self.workers,
            export_method=self.export_method,
            format=check_choice("format", self.format, FORMATS),
            compression=check_choice("compression", self.compression, COMPRESSIONS),
            compression_level=self.compression_level,
        )


@dg.op
def resolve_backup_directory(
    context: dg.OpExecutionContext,
    config: BackupParameters,
    backup_storage: BackupStorageResource,
    backup_run: BackupRunResource,
) -> dg.Output[BackupTarget]:
    """Check the parameters, make the backup directory and take a timestamp of its own in it."""

    def make_run() -> BackupRun:
        settings = load_settings()
        return BackupRun(
            config.request(settings),
            backup_storage.open_root(settings),
            settings.timestamps,
            lock_timeout=settings.lock_timeout,
            run_id=context.run_id,
        )

    with failing_step():
        target = backup_run.begin(make_run).resolve()
    return dg.Output(
        target,
        metadata={
            "directory": place_metadata(target.directory),
            "timestamp": target.timestamp or "nothing to do",
            "task_id": target.task_id or "none",
        },
    )
