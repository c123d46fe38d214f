"""The backups as assets: what a run reports of its tables, and the backup that the button
"Materialize" starts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import dagster as dg
from dagster._core.events import EngineEventData

from vector_backup_pipeline import resources
from vector_backup_pipeline.assets import (
    LOCATIONS_NAME,
    ROW_COUNT_DROP,
    STORED_FILES,
    partition_of,
    table_asset_key,
    table_asset_specs,
)
from vector_backup_pipeline.engine.backup.run import BackupRun
from vector_backup_pipeline.engine.errors import BackupError, RunCancelled
from vector_backup_pipeline.engine.manifest import TableBackup
from vector_backup_pipeline.engine.results import (
    BackupResult,
    ExportedTable,
    FailedTable,
    IncrementalTable,
)
from vector_backup_pipeline.engine.runs import made
from vector_backup_pipeline.engine.storage.object_url import is_url
from vector_backup_pipeline.jobs.follow_ups import follow_up
from vector_backup_pipeline.jobs.frame import plain_keys, table_progress
from vector_backup_pipeline.operations import BACKUP
from vector_backup_pipeline.outcome import failing_step, location_metadata
from vector_backup_pipeline.run_config import config_schema
from vector_backup_pipeline.settings import Settings

BackupEvent: TypeAlias = (
    dg.AssetMaterialization | dg.AssetCheckEvaluation | dg.Output[dict[str, object]]
)

# The assets and the partition say where and what; the button makes a backup and truncates nothing.
_CHOSEN = ("target", "task_id", "tables", "backup_vector_tables", "truncate_vector_tables")


def backup_assets(settings: Settings) -> dg.AssetsDefinition:
    """The assets of the tables. Materializing some is one backup of these tables, with one
    snapshot, at the location that the partition names."""
    fields, specs = config_schema(BACKUP).items(), table_asset_specs(settings)
    plain = plain_keys(k for spec in specs for k in (spec.key, *(d.asset_key for d in spec.deps)))

    @dg.multi_asset(
        name="back_up_tables",
        specs=[
            spec.replace_attributes(
                key=plain[spec.key], deps=[plain[dep.asset_key] for dep in spec.deps]
            )
            for spec in specs
        ],
        can_subset=True,
        config_schema={key: field for key, field in fields if key not in _CHOSEN},
    )
    def back_up_tables(
        context: dg.OpExecutionContext,
        postgres: resources.PostgresResource,
        backup_run: resources.BackupRunResource,
    ) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckEvaluation]:
        selected, partition = context.selected_asset_keys, context.partition_key
        tables = [table for table in settings.tables if table_asset_key(table) in selected]
        task_id = None if partition == partition_of(None, settings) else partition
        with failing_step():
            run = backup_run.begin(context, task_id=task_id, tables=tables)
            run.resolve()
            run.pin(
                lambda: postgres.connection_settings(backup_run.settings, run.request.db_connection)
            )
            for table in tables:
                try:
                    run.export(table, table_progress(context, backup_run, table))
                except RunCancelled:
                    raise
                except BackupError as error:  # It is also the run's, and raised at the end.
                    context.log.error(f"{table}: {error.error_type}: {error.message}")
            result = run.finish()
        for event in report_backup(context, backup_run, result):
            if isinstance(event, dg.AssetMaterialization):
                yield dg.MaterializeResult(asset_key=event.asset_key, metadata=event.metadata)
            elif isinstance(event, dg.AssetCheckEvaluation):
                yield event
            else:  # The result, for which the step has no output.
                data = EngineEventData(metadata=event.metadata)
                context.instance.report_engine_event("The run's result", context.run, data)
        with failing_step():
            if run.error is not None:
                raise run.error

    own_keys = {name: key for key, name in plain.items()}
    return back_up_tables.with_attributes(asset_key_replacements=own_keys)


def report_backup(
    context: dg.OpExecutionContext,
    backup_run: resources.BackupRunResource,
    result: BackupResult,
) -> Iterator[BackupEvent]:
    """The materialization of each stored table and its checks; then the result. Consolidate and
    prune if the settings request it and the backup is complete."""
    run, settings = backup_run.current, backup_run.settings
    yield from _asset_events(context, run, result, settings)
    metadata = backup_run.report(result)
    if result.backup_performed and run.error is None:
        metadata |= follow_up(context, backup_run)
    yield dg.Output(result.as_json(), metadata=metadata)


def _asset_events(
    context: dg.OpExecutionContext, run: BackupRun, result: BackupResult, settings: Settings
) -> Iterator[dg.AssetMaterialization | dg.AssetCheckEvaluation]:
    if not run.stored:
        return
    partition = partition_of(run.request.task_id, settings)
    context.instance.add_dynamic_partitions(LOCATIONS_NAME, [partition])
    earlier_rows: dict[tuple[str, str], int] = {}
    try:
        earlier_rows = run.earlier_rows()
    except BackupError as error:
        context.log.warning(f"The earlier sets cannot be read: {error.message}")
    for name, table in run.stored.items():
        key = table_asset_key(name, settings.target)
        metadata = _metadata(run, table) | incremental_metadata(
            result.tables_backed_up[name], table
        )
        yield dg.AssetMaterialization(key, metadata=metadata, partition=partition)
        # A file that is not whole has failed the run by now.
        compared = "size and hash" if run.request.truncate_vector_tables else "size"
        yield dg.AssetCheckEvaluation(
            key, STORED_FILES, passed=True, metadata={"set": run.stamp, "compared": compared}
        )
        before = earlier_rows.get((table.schema_name, table.name), 0)
        lost = 100 * (before - table.rows) / before if before else 0.0
        yield dg.AssetCheckEvaluation(
            key,
            ROW_COUNT_DROP,
            passed=lost <= settings.max_drop,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={"rows": table.rows, "rows before": before, "percent lost": round(lost, 1)},
        )


def _metadata(run: BackupRun, table: TableBackup) -> dict[str, Any]:
    """Numbers that the UI plots over time, and what it shows of a table."""
    stored, definition = made(table.file), made(table.definition)
    seconds, path = max(stored.duration, 0.001), run.path_of(stored.name)
    # The manifest does not say which other columns can be null.
    of_key = dg.TableColumnConstraints(nullable=False, other=["primary key"])
    columns = [
        dg.TableColumn(
            column.name,
            column.type.text,
            constraints=of_key if column.name in definition.primary_key else None,
        )
        for column in definition.columns
    ]
    return {
        "dagster/row_count": table.rows,
        "dagster/uri": path if is_url(path) else Path(path).as_uri(),
        "dagster/column_schema": dg.TableSchema(columns),
        "set": run.stamp,
        "rows": table.rows,
        "bytes": stored.bytes,
        "bytes in database": sum(relation.size for relation in table.relations),
        "seconds": seconds,
        "rows/s": round(stored.rows / seconds, 1),
        "MB/s": round(stored.bytes / 1e6 / seconds, 3),
        "digest": table.digest,
        "path": location_metadata(path),
        "mode": "full",
    }


def incremental_metadata(
    exported: ExportedTable | FailedTable, stored: TableBackup
) -> dict[str, int | str]:
    """What the run exported of a table if its mode was not full."""
    if not isinstance(exported, IncrementalTable):
        return {}
    metadata: dict[str, int | str | None] = {
        "mode": exported.mode,
        "builds_on": exported.builds_on,
        "rows exported": exported.rows_exported,
        "rows removed": exported.rows_removed,
        "key file bytes": stored.keys.bytes if stored.keys else None,
        "reason": exported.reason,
    }
    return {key: value for key, value in metadata.items() if value is not None}
