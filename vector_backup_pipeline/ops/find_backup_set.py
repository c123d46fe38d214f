"""Check the parameters, find the set, prove its files."""

import dagster as dg
from pydantic import Field

from vector_backup_pipeline.engine.parameters import DEFAULT_PROGRESS_EVERY, DEFAULT_WORKERS
from vector_backup_pipeline.engine.restore.request import DEFAULT_PROBES, RestoreRequest
from vector_backup_pipeline.engine.restore.run import FoundBackup, RestoreRun
from vector_backup_pipeline.engine.results import readable_size
from vector_backup_pipeline.outcome import failing_step, place_metadata
from vector_backup_pipeline.resources import (
    BackupStorageResource,
    PostgresResource,
    RestoreRunResource,
)
from vector_backup_pipeline.settings import load_settings


class RestoreParameters(dg.Config):
    """What may be asked of a restore; the same keys as the API's body."""

    timestamp: str | None = Field(
        default=None,
        description="Which set: YYYYMMDD_HHMMSS, or latest for the newest complete one. Required.",
    )
    source_database: str | None = Field(
        default=None,
        description="Database whose newest set latest is, as vector-backup list shows it: its "
        "name, or {system_identifier}/{name} if servers share the name. Default: the only one with "
        "sets, else the target.",
    )
    backup_path: str | None = Field(
        default=None,
        description="Where the set is: relative to the root's parent, or absolute under the root. "
        "Default: the root's own backup directory.",
    )
    task_id: str | None = Field(
        default=None, description="Short for the backup directory of this task."
    )
    tables: list[str] | None = Field(
        default=None, description="Which tables of the set. Default: all of them."
    )
    truncate_before_restore: bool = Field(
        default=False, description="Empty the target tables first, in the same transaction."
    )
    on_conflict: str = Field(
        default="fail",
        description="What becomes of a row whose key is there already: fail (everything is rolled "
        "back), skip, or replace.",
    )
    rename: dict[str, str] = Field(
        default_factory=dict,
        description='Restore under another name: {"table": "other"} or {"table": "schema.other"}.',
    )
    collections: list[str] | None = Field(
        default=None,
        description="Only these of LangChain's collections, with their embeddings, by name.",
    )
    fire_triggers: bool = Field(
        default=False,
        description="Let the triggers of the target tables run. Without it, a table with triggers "
        "that the restore would fire is refused.",
    )
    disable_triggers: bool = Field(
        default=False,
        description="Load without the triggers of the target tables; their owner may do so.",
    )
    allow_other_versions: bool = Field(
        default=False,
        description="Load binary files into another version of server or pgvector than wrote them.",
    )
    workers: int = Field(
        default=DEFAULT_WORKERS,
        description="Parallel connections, where every table is new in the target.",
    )
    maintenance_work_mem: str | None = Field(
        default=None, description="Memory for building indexes, such as 2GB. Default: the server's."
    )
    max_parallel_maintenance_workers: int | None = Field(
        default=None, description="Workers that help build one index. Default: the server's."
    )
    probes: int = Field(
        default=DEFAULT_PROBES,
        description="Searches for each dimension that measure a vector index's recall@10; 0: none.",
    )
    progress_every: int = Field(
        default=DEFAULT_PROGRESS_EVERY, description="Rows between progress events."
    )

    def request(self) -> RestoreRequest:
        """The parameters, checked.

        Raises:
            MissingRequiredParams: there is no timestamp.
            InvalidParams: a parameter does not make sense.
        """
        return RestoreRequest(
            timestamp=self.timestamp or "",
            source_database=self.source_database or None,
            backup_path=self.backup_path or None,
            task_id=self.task_id or None,
            tables=None if self.tables is None else tuple(self.tables),
            truncate_before_restore=self.truncate_before_restore,
            on_conflict=self.on_conflict,
            rename=dict(self.rename),
            collections=None if self.collections is None else tuple(self.collections),
            fire_triggers=self.fire_triggers,
            disable_triggers=self.disable_triggers,
            allow_other_versions=self.allow_other_versions,
            workers=self.workers,
            maintenance_work_mem=self.maintenance_work_mem,
            max_parallel_maintenance_workers=self.max_parallel_maintenance_workers,
            probes=self.probes,
            progress_every=self.progress_every,
        )


@dg.op
def find_backup_set(
    context: dg.OpExecutionContext,
    config: RestoreParameters,
    postgres: PostgresResource,
    backup_storage: BackupStorageResource,
    restore_run: RestoreRunResource,
) -> dg.Output[FoundBackup]:
    """Find the set and prove that its files are what was written, before the target is touched."""

    def make_run() -> RestoreRun:
        settings = load_settings()
        return RestoreRun(
            config.request(),
            backup_storage.open_root(settings),
            settings.timestamps,
            lock_timeout=settings.lock_timeout,
            run_id=context.run_id,
        )

    with failing_step():
        found = restore_run.begin(make_run).find(postgres.connection_settings)
    return dg.Output(
        found,
        metadata={
            "directory": place_metadata(found.directory),
            "timestamp": found.timestamp,
            "tables": ", ".join(found.tables),
            "size": readable_size(found.size),
        },
    )
