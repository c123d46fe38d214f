"""The steps of a restore."""

import time
from collections.abc import Iterator

import dagster as dg

from vector_backup_pipeline.engine.restore.report import recall_line
from vector_backup_pipeline.engine.restore.run import FoundBackup, RestoreRun, TableLoad
from vector_backup_pipeline.engine.results import readable_size
from vector_backup_pipeline.operations import RESTORE
from vector_backup_pipeline.ops.table_steps import mapping_keys, table_progress
from vector_backup_pipeline.outcome import failing_step, place_metadata
from vector_backup_pipeline.parameters.restore import RestoreParameters
from vector_backup_pipeline.resources import (
    BackupStorageResource,
    PostgresResource,
    ProgressResource,
    RestoreRunResource,
)
from vector_backup_pipeline.run_config import config_schema
from vector_backup_pipeline.settings import Settings


@dg.op(config_schema=config_schema(RESTORE))
def find_backup_set(
    context: dg.OpExecutionContext,
    postgres: PostgresResource,
    backup_storage: BackupStorageResource,
    restore_run: RestoreRunResource,
) -> dg.Output[FoundBackup]:
    """Find the set and prove that its files are what was written, before the target is touched."""

    def make_run(settings: Settings) -> RestoreRun:
        return RestoreRun(
            RestoreParameters(**context.op_config),
            backup_storage.open_root(settings),
            settings.timestamps,
            lock_timeout=settings.lock_timeout,
            run_id=context.run_id,
        )

    with failing_step():
        found = restore_run.begin(make_run).find(
            lambda: postgres.connection_settings(restore_run.settings)
        )
    return dg.Output(
        found,
        metadata={
            "directory": place_metadata(found.directory),
            "timestamp": found.timestamp,
            "tables": ", ".join(found.tables),
            "size": readable_size(found.size),
        },
    )


@dg.op(ins={"found": dg.In(FoundBackup)}, out=dg.DynamicOut(TableLoad))
def prepare_target(
    found: FoundBackup,  # noqa: ARG001 - the step comes after the files are proven
    postgres: PostgresResource,
    restore_run: RestoreRunResource,
) -> Iterator[dg.DynamicOutput[TableLoad]]:
    """Lock the target's tables, empty them if asked, make those that are missing."""
    with failing_step():
        loads = restore_run.current.prepare(
            lambda: postgres.connection_settings(restore_run.settings)
        )
    for load, key in zip(loads, mapping_keys([load.table for load in loads]), strict=True):
        yield dg.DynamicOutput(
            load,
            mapping_key=key,
            metadata={
                "table": load.table,
                "step": f"load_table[{key}]",
                "target": load.target,
                "size": readable_size(load.size),
                "rows": "unknown" if load.rows is None else load.rows,
            },
        )


@dg.op
def load_table(
    context: dg.OpExecutionContext,
    table_load: TableLoad,
    progress: ProgressResource,
    restore_run: RestoreRunResource,
) -> dg.Output[int]:
    """Send every row of the file to the target; nobody sees them until all tables are proven."""
    table = table_load.table
    started = time.monotonic()
    with failing_step():
        run = restore_run.current
        listener = table_progress(context, progress, table, run.request.progress_every)
        rows = run.load(table, listener)
    seconds = time.monotonic() - started
    return dg.Output(
        rows,
        metadata={
            "table": table,
            "target": table_load.target,
            "rows": rows,
            "seconds": round(seconds, 3),
            "MB/s": round(table_load.size / 1e6 / max(seconds, 1e-6), 1),
        },
    )


@dg.op
def build_indexes(
    context: dg.OpExecutionContext,
    loaded_rows: list[int],
    progress: ProgressResource,
    restore_run: RestoreRunResource,
) -> dg.Output[int]:
    """Build what is faster built over all rows than kept up row by row."""
    started = time.monotonic()
    built: list[str] = []

    def listener(said: str) -> None:
        built.append(said)
        context.log.info(said)
        progress.said(said)

    with failing_step():
        restore_run.current.build_indexes(listener)
    return dg.Output(
        sum(loaded_rows),
        metadata={
            "rows": sum(loaded_rows),
            "indexes": dg.MetadataValue.md("\n".join(f"- {each}" for each in built) or "none"),
            "seconds": round(time.monotonic() - started, 3),
        },
    )


@dg.op(ins={"rows": dg.In(int)})
def prove_restore(
    rows: int,
    restore_run: RestoreRunResource,
) -> dg.Output[dict[str, bool | None]]:
    """Count rows and compare content digests in the target; commit only if all of them hold."""
    with failing_step():
        run = restore_run.current
        proved = run.prove()
        recall = run.measure_recall()
    found = "\n".join(f"- {recall_line(each).strip(' ~')}" for each in recall)
    digests = {
        f"{table}: digest": "not comparable" if matches is None else "equal"
        for table, matches in proved.items()
    }
    return dg.Output(
        proved, metadata={"rows": rows, **digests, "recall": dg.MetadataValue.md(found or "none")}
    )


# Dagster skips what depends on a failed table, so it depends on the first step alone; the priority
# makes it the last one.
@dg.op(
    ins={"found": dg.In(dg.Nothing)},
    out=dg.Out(dict[str, object], description="The restore's result."),
    tags={"dagster/priority": "-10"},
)
def write_restore_log(restore_run: RestoreRunResource) -> dg.Output[dict[str, object]]:
    """Write the log, whatever became of the tables, and show the result."""
    with failing_step():
        result = restore_run.current.finish()
    return dg.Output(result.as_json(), metadata=restore_run.report(result))
