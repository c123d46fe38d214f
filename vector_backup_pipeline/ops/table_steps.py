"""What the steps share that are made per table: their keys, and their progress."""

import re

import dagster as dg
from dagster._core.events import EngineEventData

from vector_backup_pipeline.engine.progress import Progress, ProgressListener, progress_line
from vector_backup_pipeline.engine.results import readable_size
from vector_backup_pipeline.resources import ProgressResource

_NOT_IN_A_KEY = re.compile(r"[^A-Za-z0-9_]")


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


def table_progress(
    context: dg.OpExecutionContext, progress: ProgressResource, table: str, every: int
) -> ProgressListener:
    """Announce that the table begins; the listener shows its progress at the terminal, and every
    `every` rows as an event of the run, for the UI and for callers of GraphQL."""
    next_at = every

    def listener(moment: Progress) -> None:
        nonlocal next_at
        progress.progressed(moment)
        if moment.rows >= next_at:
            next_at = moment.rows - moment.rows % every + every
            context.instance.report_engine_event(
                f"{moment.table}: {progress_line(moment)}",
                context.dagster_run,
                EngineEventData(metadata=_metadata(moment)),
                step_key=context.get_step_execution_context().step.key,
            )

    progress.table_started(table)
    return listener


def _metadata(moment: Progress) -> dict[str, dg.MetadataValue]:
    metadata: dict[str, dg.MetadataValue] = {
        "table": dg.MetadataValue.text(moment.table),
        "rows": dg.MetadataValue.int(moment.rows),
        "size": dg.MetadataValue.text(readable_size(moment.bytes)),
        "rows_per_second": dg.MetadataValue.float(round(moment.rows_per_second, 1)),
        "megabytes_per_second": dg.MetadataValue.float(round(moment.megabytes_per_second, 1)),
    }
    if moment.percent is not None:
        metadata["percent"] = dg.MetadataValue.float(round(moment.percent, 1))
    if moment.seconds_left is not None:
        metadata["seconds_left"] = dg.MetadataValue.float(round(moment.seconds_left, 1))
    return metadata
