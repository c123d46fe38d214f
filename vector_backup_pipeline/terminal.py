"""What a backup looks like in a terminal: bars while it runs, a summary when it is over."""

import io
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

import dagster as dg
from pydantic import PrivateAttr
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from vector_backup_pipeline.engine.backup.report import table_line
from vector_backup_pipeline.engine.progress import Progress as Moment
from vector_backup_pipeline.engine.progress import progress_line
from vector_backup_pipeline.engine.report import notice_lines, truncate_line
from vector_backup_pipeline.engine.restore.report import restore_lines
from vector_backup_pipeline.engine.results import (
    BackupResult,
    EndedUpload,
    PruneResult,
    RestoreResult,
    VerifyResult,
    readable_size,
)
from vector_backup_pipeline.engine.retention.report import location_lines
from vector_backup_pipeline.engine.verification.report import verdict_lines
from vector_backup_pipeline.operations import BACKUP, PRUNE, RESTORE, VERIFY, Operation
from vector_backup_pipeline.output import TolerantOutput
from vector_backup_pipeline.resources import ProgressResource

# Where nobody watches a bar, a line now and then is enough.
_SECONDS_BETWEEN_LINES = 5.0


class TerminalProgressResource(ProgressResource):
    """A live bar a table on a terminal, plain lines elsewhere; always on stderr."""

    _bars: Progress | None = PrivateAttr(default=None)
    _tasks: dict[str, TaskID] = PrivateAttr(default_factory=dict)
    _last_line: float = PrivateAttr(default=0.0)
    _stream: Any = PrivateAttr(default=None)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:  # noqa: ARG002 - Dagster's
        self._stream = _own_stderr()
        console = Console(file=self._stream)
        if console.is_terminal:
            self._bars = Progress(
                TextColumn("{task.fields[table]}", markup=False),
                BarColumn(),
                TextColumn("{task.fields[numbers]}", markup=False),
                console=console,
            )
            self._bars.start()

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:  # noqa: ARG002 - Dagster's
        if self._bars is not None:
            self._bars.stop()
        if self._stream is not sys.stderr:
            self._stream.close()

    def table_started(self, table: str) -> None:
        self._last_line = time.monotonic()
        if self._bars is not None:
            self._tasks[table] = self._bars.add_task("", total=100, table=table, numbers="")

    def progressed(self, moment: Moment) -> None:
        numbers = progress_line(moment)
        if self._bars is not None:
            self._bars.update(
                self._tasks[moment.table], completed=moment.percent or 0, numbers=numbers
            )
        elif time.monotonic() - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            self._print(f"{moment.table}: {numbers}")

    def said(self, line: str) -> None:
        if self._bars is not None:
            self._bars.console.print(line, markup=False, highlight=False)
        else:
            self._print(line)

    def _print(self, line: str) -> None:
        print(line, file=self._stream or sys.stderr, flush=True)


def _own_stderr() -> TextIO:
    """Standard error by a descriptor of its own: while a step runs, a persistent instance redirects
    descriptor 2 to the step's compute log, where nobody watches a bar."""
    try:
        return TolerantOutput(sys.stderr)
    except io.UnsupportedOperation:
        return sys.stderr


def restore_summary(result: dict[str, Any]) -> str:
    """A restore's result as a person reads it."""
    told = RestoreResult.model_validate(result)
    lines = restore_lines(told)
    if told.restore_performed and told.backup_info is not None:
        lines.append(f"  from {told.backup_info.backup_path}, {told.duration:.1f} s")
    elif told.outcome == "unknown":
        lines.append("  Nobody can say whether it was committed: look whether the rows are there.")
    else:
        lines.append("  Nothing was restored; the target is as it was.")
    return "\n".join(lines)


def verification_summary(result: dict[str, Any]) -> str:
    """A verification's result as a person reads it."""
    told = VerifyResult.model_validate(result)
    lines = [line for verdict in told.sets for line in verdict_lines(verdict)]
    lines += [f"! {notice}" for notice in told.notices]
    passed = sum(verdict.passed for verdict in told.sets)
    return "\n".join([*lines, f"{passed} of {len(told.sets)} sets passed, {told.duration:.1f} s"])


def prune_summary(result: dict[str, Any]) -> str:
    """A prune's result as a person reads it: every set, why it stays or goes, and the totals."""
    told = PruneResult.model_validate(result)
    lines: list[str] = []
    for location in told.locations:
        lines += [*location_lines(location, dry_run=told.dry_run), ""]
    lines += [_upload_line(each, dry_run=told.dry_run) for each in told.abandoned_uploads]
    lines += [f"! {notice}" for notice in told.notices]
    kept = sum(len(each.kept) for each in told.locations)
    removed = sum(len(each.removed) + len(each.finished) for each in told.locations)
    size = readable_size(told.bytes_freed)
    if told.dry_run:
        lines.append(f"To keep: {kept}, to remove: {removed}, to free: {size}.")
        lines.append("This was a dry run, and nothing was removed; --yes does it.")
    else:
        lines.append(f"Kept: {kept}, removed: {removed}, freed: {size}, {told.duration:.1f} s.")
    return "\n".join(lines)


def _upload_line(upload: EndedUpload, *, dry_run: bool) -> str:
    size = "" if upload.size is None else f", {readable_size(upload.size)}"
    word = "would be ended" if dry_run else "ended"
    return f"Abandoned upload {word}: {upload.location} of {upload.started_at:%Y-%m-%d %H:%M}{size}"


def backup_summary(result: dict[str, Any]) -> str:
    """A backup's result as a person reads it."""
    told = BackupResult.model_validate(result)
    lines = [table_line(table, entry) for table, entry in told.tables_backed_up.items()]
    lines += [truncate_line(table, entry) for table, entry in told.truncate_results.items()]
    lines += notice_lines(told.notices)
    if not told.tables_backed_up:
        lines.append("  Nothing was backed up.")
    elif told.backup_directory:
        lines.append(f"  in {told.backup_directory}, {told.duration:.1f} s")
    return "\n".join(lines)


SUMMARIES: Mapping[Operation, Callable[[dict[str, Any]], str]] = {
    BACKUP: backup_summary,
    RESTORE: restore_summary,
    VERIFY: verification_summary,
    PRUNE: prune_summary,
}
