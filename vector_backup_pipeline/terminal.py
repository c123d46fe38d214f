"""A run at the terminal: progress bars, and a summary at the end."""

import io
import sys
from collections.abc import Callable, Mapping
from typing import Any, TextIO

import dagster as dg
from pydantic import PrivateAttr
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from vector_backup_pipeline.engine import results
from vector_backup_pipeline.engine.progress import Progress as Moment
from vector_backup_pipeline.engine.progress import progress_line
from vector_backup_pipeline.engine.report import notice_lines, table_line, truncate_line
from vector_backup_pipeline.engine.restore.report import restore_lines
from vector_backup_pipeline.engine.retention.run import location_lines
from vector_backup_pipeline.engine.verification.run import verdict_lines
from vector_backup_pipeline.operations import BACKUP, PRUNE, RESTORE, VERIFY, Operation
from vector_backup_pipeline.output import TolerantOutput
from vector_backup_pipeline.resources import ProgressResource


class TerminalProgressResource(ProgressResource):
    """A progress bar per table on a terminal, and lines, always on stderr. With `is_quiet`, only
    warnings."""

    is_terminal = True
    is_quiet: bool = False
    _bars: Progress | None = PrivateAttr(default=None)
    _tasks: dict[str, TaskID] = PrivateAttr(default_factory=dict)
    _stream: Any = PrivateAttr(default=None)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:  # noqa: ARG002 - Dagster's
        self._stream = _own_stderr()
        console = Console(file=self._stream)
        if console.is_terminal and not self.is_quiet:
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
        if self._bars is not None:
            self._tasks[table] = self._bars.add_task("", total=100, table=table, numbers="")

    def progressed(self, moment: Moment) -> None:
        if self._bars is not None:
            percent, numbers = moment.percent or 0, progress_line(moment)
            self._bars.update(self._tasks[moment.table], completed=percent, numbers=numbers)

    def announced(self, line: str) -> None:
        if not self.is_quiet:
            self.warned(line)

    def warned(self, line: str) -> None:
        if self._bars is not None:
            self._bars.console.print(line, markup=False, highlight=False)
        else:
            print(line, file=self._stream or sys.stderr, flush=True)


def _own_stderr() -> TextIO:
    """Standard error with a descriptor of its own: while a step runs, a persistent instance
    redirects descriptor 2 to the step's compute log."""
    try:
        return TolerantOutput(sys.stderr)
    except io.UnsupportedOperation:
        return sys.stderr


def backup_summary(result: results.BackupResult) -> list[str]:
    lines = [table_line(table, entry) for table, entry in result.tables_backed_up.items()]
    lines += [truncate_line(table, entry) for table, entry in result.truncate_results.items()]
    lines += notice_lines(result.notices)
    if not result.tables_backed_up:
        lines.append("  Nothing was backed up.")
    elif result.backup_directory:
        lines.append(f"  in {result.backup_directory}, {result.duration:.1f} s")
    return lines


def restore_summary(result: results.RestoreResult) -> list[str]:
    lines = restore_lines(result)
    if result.restore_performed and result.backup_info is not None:
        lines.append(f"  from {result.backup_info.backup_path}, {result.duration:.1f} s")
    elif result.outcome == "unknown":
        lines.append("  It is unknown whether the restore committed. Check the target's rows.")
    else:
        lines.append("  Nothing was restored; the target is unchanged.")
    return lines


def verify_summary(result: results.VerifyResult) -> list[str]:
    lines = [line for verdict in result.sets for line in verdict_lines(verdict)]
    lines += [f"! {notice}" for notice in result.notices]
    passed = sum(verdict.passed for verdict in result.sets)
    return [*lines, f"{passed} of {len(result.sets)} sets passed, {result.duration:.1f} s"]


def prune_summary(result: results.PruneResult) -> list[str]:
    lines: list[str] = []
    for location in result.locations:
        lines += [*location_lines(location, dry_run=result.dry_run), ""]
    action = "would be aborted" if result.dry_run else "aborted"
    lines += [f"Abandoned upload {action}: {u.location}" for u in result.abandoned_uploads]
    lines += [f"! {notice}" for notice in result.notices]
    kept = sum(len(location.kept) for location in result.locations)
    removed = sum(len(location.removed) + len(location.finished) for location in result.locations)
    size = results.readable_size(result.bytes_freed)
    if result.dry_run:
        lines.append(f"To keep: {kept}, to remove: {removed}, to free: {size}.")
        return [*lines, "This was a dry run: nothing was removed. Add --yes to remove."]
    return [*lines, f"Kept: {kept}, removed: {removed}, freed: {size}, {result.duration:.1f} s."]


_SUMMARIES: Mapping[Operation, Callable[[Any], list[str]]] = {
    BACKUP: backup_summary,
    RESTORE: restore_summary,
    VERIFY: verify_summary,
    PRUNE: prune_summary,
}


def summary(operation: Operation, result: dict[str, Any]) -> list[str]:
    """The result of an operation for a person."""
    return _SUMMARIES[operation](operation.result.model_validate(result))
