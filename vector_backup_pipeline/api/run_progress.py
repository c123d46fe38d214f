"""The progress of a run, updated from its events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from vector_backup_pipeline.api.dagster_client import RunEvent, RunReading
from vector_backup_pipeline.outcome import RunOutcome, is_told_by, outcome_of

ENDED = frozenset({"SUCCESS", "FAILURE", "CANCELED"})
QUEUED = frozenset({"QUEUED", "NOT_STARTED"})
_END_EVENTS = {"RunSuccessEvent", "RunFailureEvent", "RunCanceledEvent"}


class TableProgress(BaseModel):
    """The progress of one table. `stopped`: the run ended before the table was finished. Unknown
    values are null."""

    model_config = ConfigDict(extra="forbid")

    state: Literal["waiting", "running", "done", "failed", "stopped"] = "waiting"
    rows: int | None = Field(None, description="Rows so far.", examples=[50000])
    size: str | None = Field(None, description="Bytes so far.", examples=["764.0 KB"])
    percent: float | None = Field(None, description="Percent of the table.", examples=[43.1])
    rows_per_second: float | None = Field(None, examples=[14210.5])
    seconds_left: float | None = Field(None, description="An estimate.", examples=[4.6])


class RunProgress:
    """A run as last read. `take` applies a newer reading."""

    def __init__(self, run_id: str, reading: RunReading) -> None:
        self.run_id = run_id
        self.job = reading.job
        self.tables: dict[str, TableProgress] = {}
        self.cursor: str | None = None
        self._outcome_metadata: list[Mapping[str, Any]] = []
        self._tables_of_steps: dict[str, str] = {}
        self._has_end_event = False
        self.take(reading)

    def take(self, reading: RunReading) -> None:
        self.status = reading.status
        self.created_at, self.started_at = reading.created_at, reading.started_at
        self.ended_at = reading.ended_at
        self.cursor = reading.cursor or self.cursor
        self._fold(reading.events)
        if self.has_ended:
            for progress in self.tables.values():
                if progress.state in ("waiting", "running"):
                    progress.state, progress.seconds_left = "stopped", None

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED

    @property
    def is_complete(self) -> bool:
        """Whether the run has ended and all its events were read."""
        return self.has_ended and self._has_end_event

    @property
    def outcome(self) -> RunOutcome:
        """How the run ended."""
        return outcome_of(self._outcome_metadata)

    def _fold(self, events: Iterable[RunEvent]) -> None:
        for event in events:
            self._has_end_event |= event.kind in _END_EVENTS
            if is_told_by(event.metadata):
                self._outcome_metadata.append(event.metadata)
            if {"table", "step"} <= event.metadata.keys():
                # The step that plans the run names each table and its step.
                self._tables_of_steps[event.metadata["step"]] = event.metadata["table"]
                self.tables.setdefault(event.metadata["table"], TableProgress())
            elif event.step in self._tables_of_steps:
                self._fold_table(event, self.tables[self._tables_of_steps[event.step]])

    def _fold_table(self, event: RunEvent, progress: TableProgress) -> None:
        if event.kind == "ExecutionStepFailureEvent":
            progress.state = "failed"
        elif event.kind == "ExecutionStepOutputEvent":
            progress.state, progress.percent = "done", 100.0
        elif progress.state == "waiting":
            progress.state = "running"
        for key in ("rows", "size", "percent", "rows_per_second", "seconds_left"):
            if key in event.metadata:
                setattr(progress, key, event.metadata[key])
        if progress.state not in ("waiting", "running"):
            progress.seconds_left = None
