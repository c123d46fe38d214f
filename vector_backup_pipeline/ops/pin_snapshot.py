"""Lock the tables, fix one snapshot for all of them, fan out one step a table."""

import re
from collections.abc import Iterator

import dagster as dg

from vector_backup_pipeline.engine.backup_run import BackupTarget, TableExport
from vector_backup_pipeline.engine.results import readable_size
from vector_backup_pipeline.outcome import failing_step
from vector_backup_pipeline.resources import BackupRunResource, PostgresResource

_NOT_IN_A_KEY = re.compile(r"[^A-Za-z0-9_]")


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
                "size in database": readable_size(export.size),
                "estimated rows": "unknown"
                if export.estimated_rows is None
                else export.estimated_rows,
                "ranges": export.ranges,
            },
        )


def mapping_keys(tables: list[str]) -> list[str]:
    """A step key for each table: its name as far as Dagster allows, numbered where two agree."""
    keys: list[str] = []
    for table in tables:
        key = base = _NOT_IN_A_KEY.sub("_", table)
        number = 2
        while key in keys:
            key, number = f"{base}_{number}", number + 1
        keys.append(key)
    return keys
