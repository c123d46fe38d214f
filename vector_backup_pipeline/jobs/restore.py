"""The restore of a backup set: verified, all or nothing."""

import time
from collections.abc import Iterator

import dagster as dg

from vector_backup_pipeline import resources
from vector_backup_pipeline.engine.restore.report import recall_line
from vector_backup_pipeline.engine.restore.run import FoundBackup, TableLoad
from vector_backup_pipeline.jobs import frame
from vector_backup_pipeline.operations import RESTORE
from vector_backup_pipeline.outcome import failing_step
from vector_backup_pipeline.run_config import config_schema


@dg.op(config_schema=config_schema(RESTORE))
def find_backup_set(
    context: dg.OpExecutionContext,
    postgres: resources.PostgresResource,
    restore_run: resources.RestoreRunResource,
) -> dg.Output[FoundBackup]:
    """Find the set and verify its files, before the target is touched."""
    with failing_step():
        run = restore_run.begin(context)
        backup = run.find(
            lambda: postgres.connection_settings(restore_run.settings, run.request.db_connection)
        )
    return dg.Output(backup, metadata=frame.part_metadata(backup))


@dg.op(ins={"backup": dg.In(FoundBackup)}, out=dg.DynamicOut(TableLoad))
def prepare_target(
    backup: FoundBackup,  # noqa: ARG001 - the step comes after the files are verified
    restore_run: resources.RestoreRunResource,
) -> Iterator[dg.DynamicOutput[TableLoad]]:
    """Lock the target's tables, empty them if requested, create those that are missing."""
    with failing_step():
        loads = restore_run.current.prepare()
    yield from frame.mapped_steps("load_table", loads, [load.table for load in loads])


@dg.op
def load_table(
    context: dg.OpExecutionContext,
    table_load: TableLoad,
    restore_run: resources.RestoreRunResource,
) -> dg.Output[int]:
    """Load the rows of the file into the target. They are not visible before the final commit."""
    table = table_load.table
    started = time.monotonic()
    with failing_step():
        run = restore_run.current
        rows = run.load(table, frame.table_progress(context, restore_run, table))
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
    restore_run: resources.RestoreRunResource,
) -> dg.Output[int]:
    """Build the keys and indexes that are faster to build over all rows than row by row."""
    started = time.monotonic()
    built: list[str] = []

    def listener(message: str) -> None:
        built.append(message)
        context.log.info(message)
        restore_run.progress.announced(message)

    with failing_step():
        restore_run.current.build_indexes(listener)
    return dg.Output(
        sum(loaded_rows),
        metadata={
            "rows": sum(loaded_rows),
            "indexes": dg.MetadataValue.md("\n".join(f"- {line}" for line in built) or "none"),
            "seconds": round(time.monotonic() - started, 3),
        },
    )


@dg.op(ins={"rows": dg.In(int)})
def prove_restore(
    rows: int, restore_run: resources.RestoreRunResource
) -> dg.Output[dict[str, bool | None]]:
    """Compare row counts and content digests in the target; commit only if all of them match."""
    with failing_step():
        run = restore_run.current
        proved = run.prove()
        recall = run.measure_recall()
    recall_lines = "\n".join(f"- {recall_line(index).strip(' ~')}" for index in recall)
    digests = {
        f"{table}: digest": "not comparable" if matches is None else "equal"
        for table, matches in proved.items()
    }
    return dg.Output(
        proved,
        metadata={"rows": rows, **digests, "recall": dg.MetadataValue.md(recall_lines or "none")},
    )


@frame.log_step
def write_restore_log(restore_run: resources.RestoreRunResource) -> dg.Output[dict[str, object]]:
    """Write the log, even if a table failed, and report the result."""
    with failing_step():
        result = restore_run.current.finish()
    return dg.Output(result.as_json(), metadata=restore_run.report(result))


@frame.operation_job(RESTORE, first_step=find_backup_set)
def vector_restore_job() -> None:
    """Restore a backup set into existing tables or an empty database, and verify the rows."""
    backup = find_backup_set()
    loaded = prepare_target(backup).map(load_table)
    prove_restore(build_indexes(loaded.collect()))
    write_restore_log(backup)
