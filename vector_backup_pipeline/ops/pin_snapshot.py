"""Lock the tables, fix one snapshot for all of them, fan out one step a table."""

from collections.abc import Iterator

import dagster as dg

from vector_backup_pipeline.engine.backup.run import BackupTarget, TableExport
from vector_backup_pipeline.engine.results import readable_size
from vector_backup_pipeline.ops.mapping_keys import mapping_keys
from vector_backup_pipeline.outcome import failing_step
from vector_backup_pipeline.resources import BackupRunResource, PostgresResource


@dg.op(out=dg.DynamicOut(TableExport))
def pin_snapshot(
    backup_target: BackupTarget,
    postgres: PostgresResource,
    backup_run: BackupRunResource,
) -> Iterator[dg.DynamicOutput[TableExport]]:
    """Open the run's transactions on one snapshot; give each table to a step of its own."""
    if backup_target.timestamp is None:
        return
    with failing_step():
        exports = backup_run.current.pin(postgres.connection_settings)
    for export, key in zip(exports, mapping_keys([e.table for e in exports]), strict=True):
        yield dg.DynamicOutput(
            export,
            mapping_key=key,
            metadata={
                "table": export.table,
                "step": f"export_table[{key}]",
                "size in database": readable_size(export.size),
                "estimated rows": "unknown"
                if export.estimated_rows is None
                else export.estimated_rows,
                "ranges": export.ranges,
            },
        )
