"""A run's progress as events of its own, for the UI and for who asks over GraphQL."""

from dataclasses import dataclass

import dagster as dg
from dagster._core.events import EngineEventData

from vector_backup_pipeline.engine.progress import Progress, progress_line
from vector_backup_pipeline.engine.results import readable_size


@dataclass
class ProgressEvents:
    """Puts an event into the run's log every `every` rows."""

    context: dg.OpExecutionContext
    every: int
    next_at: int = 0

    def __post_init__(self) -> None:
        self.next_at = self.every

    def progressed(self, moment: Progress) -> None:
        if moment.rows < self.next_at:
            return
        self.next_at = moment.rows - moment.rows % self.every + self.every
        self.context.instance.report_engine_event(
            f"{moment.table}: {progress_line(moment)}",
            self.context.dagster_run,
            EngineEventData(metadata=_metadata(moment)),
            step_key=self.context.get_step_execution_context().step.key,
        )


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
