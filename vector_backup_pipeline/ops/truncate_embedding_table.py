"""Empty the truncate tables, if asked, once every table is safe."""

import dagster as dg

from vector_backup_pipeline.engine.results import ExportedTable, TruncatedTable
from vector_backup_pipeline.outcome import failing_step
from vector_backup_pipeline.resources import BackupRunResource


@dg.op
def truncate_embedding_table(
    exported_tables: list[ExportedTable], backup_run: BackupRunResource
) -> dg.Output[dict[str, TruncatedTable]]:
    """Re-read the stored files, then truncate in the transaction that has kept writers out."""
    with failing_step():
        truncated = backup_run.current.truncate()
    rows = {f"{table}: rows truncated": entry.rows_before for table, entry in truncated.items()}
    return dg.Output(truncated, metadata={"tables backed up": len(exported_tables), **rows})
