"""A prune's section of the log, and its lines wherever people read them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from vector_backup_pipeline.engine.report import RULE, error_lines
from vector_backup_pipeline.engine.results import PrunedLocation, RemovedSet, readable_size


def prune_section(
    told: PrunedLocation, rules: str, began_at: datetime, *, run_id: str, canceled: str | None
) -> str:
    """The section of one run in a location's log; `canceled` if the run was."""
    outcome = canceled or ("FAILED" if told.errors else "SUCCESS")
    lines = [
        RULE,
        f"{began_at:%Y-%m-%d %H:%M:%S %Z}  prune: {outcome}",
        f"Run: {run_id}",
        f"Rules: {rules}",
        *removed_lines(told, dry_run=False),
        f"Kept: {', '.join(each.timestamp for each in told.kept) or 'none'}",
        *error_lines(told.errors),
    ]
    return "\n".join(lines) + "\n\n"


def location_lines(told: PrunedLocation, *, dry_run: bool) -> Iterator[str]:
    """Every set of a place, kept or removed, and why."""
    of = "the root" if told.task_id is None else f"task {told.task_id}"
    yield f"Backups of {of}: {told.backup_path}"
    for kept in told.kept:
        yield f"  keep    {kept.timestamp}  {'; '.join(kept.reasons)}"
    yield from removed_lines(told, dry_run=dry_run)
    for other in told.other_files:
        yield f"  {other.state}: {other.file}"
    for line in told.errors:
        yield f"  ✗ {line}"
    if not (told.kept or told.removed or told.finished):
        yield "  no sets"


def removed_lines(told: PrunedLocation, *, dry_run: bool) -> Iterator[str]:
    for each in told.removed:
        yield _line("remove " if dry_run else "removed", each)
    for each in told.finished:
        yield _line("finish " if dry_run else "finished", each)


def _line(word: str, removed: RemovedSet) -> str:
    size, reasons = readable_size(removed.bytes), "; ".join(removed.reasons)
    return f"  {word} {removed.timestamp}  {reasons} ({len(removed.files)} files, {size})"
