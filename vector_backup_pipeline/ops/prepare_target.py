"""Look at the target, lock and make its tables, fan out one step a table."""

from collections.abc import Iterator

import dagster as dg

from vector_backup_pipeline.engine.restore.run import FoundBackup, TableLoad
from vector_backup_pipeline.engine.results import readable_size
from vector_backup_pipeline.ops.mapping_keys import mapping_keys
from vector_backup_pipeline.outcome import failing_step
from vector_backup_pipeline.resources import PostgresResource, RestoreRunResource


@dg.op(ins={"found": dg.In(FoundBackup)}, out=dg.DynamicOut(TableLoad))
def prepare_target(
    found: FoundBackup,  # noqa: ARG001 - the step comes after the files are proven
    postgres: PostgresResource,
    restore_run: RestoreRunResource,
) -> Iterator[dg.DynamicOutput[TableLoad]]:
    """Lock the target's tables, empty them if asked, make those that are missing."""
    with failing_step():
        loads = restore_run.current.prepare(postgres.connection_settings)
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
