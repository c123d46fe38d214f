"""`vector-backup list`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from vector_backup_pipeline.cli.showing import (
    DONE,
    json_option,
    printable,
    show_json,
    target_option,
)

if TYPE_CHECKING:
    from vector_backup_pipeline.engine.catalog.locations import BackupLocation
    from vector_backup_pipeline.engine.catalog.stored_sets import StoredFile, StoredSet
    from vector_backup_pipeline.engine.storage.root import BackupRoot
    from vector_backup_pipeline.engine.timestamps import TimestampFormat

_HEADINGS = ("TIMESTAMP", "DATE", "DATABASE", "STATE", "FILES")


@click.command("list")
@target_option
@click.option(
    "--task-id",
    metavar="ID",
    help="List only the sets of this task, such as corpus_7. Default: all.",
)
@click.option(
    "--global-only",
    is_flag=True,
    help="List only the root's own sets, not those of tasks. Default: off.",
)
@json_option
def list_command(target: str | None, task_id: str | None, global_only: bool, as_json: bool) -> int:
    """List backup sets.

    Sets are listed by location, newest first, followed by files that belong to no set.

    \b
    Examples:
      vector-backup list
      vector-backup list --task-id corpus_7
      vector-backup list --json | jq '.backup_locations[0].backups[0].timestamp'
    """
    from vector_backup_pipeline.engine.catalog.locations import find_locations, list_backups
    from vector_backup_pipeline.settings import load_settings

    settings = load_settings(target=target)
    root, timestamps = settings.open_root(), settings.timestamps
    if as_json:
        backups = list_backups(root, timestamps, task_id=task_id, global_only=global_only)
        show_json(backups.as_json())
    else:
        locations = find_locations(root, timestamps, task_id=task_id, global_only=global_only)
        click.echo("\n".join(_lines(locations, root, timestamps)))
    return DONE


def _lines(
    locations: list[BackupLocation], root: BackupRoot, timestamps: TimestampFormat
) -> Iterator[str]:
    from vector_backup_pipeline.engine.catalog.locations import labels_of

    if not locations:
        yield f"No backups under {root.location}."
    labels = labels_of(locations)
    for number, location in enumerate(locations):
        owner = "the root" if location.task_id is None else f"task {location.task_id}"
        if number > 0:
            yield ""
        yield f"Backups of {owner}: {printable(location.location)}"
        rows: list[tuple[str, ...]] = [_HEADINGS]
        for stored in location.sets:
            date = f"{stored.date(timestamps):%Y-%m-%d %H:%M:%S %Z}"
            database = printable(labels[stored.source] if stored.source else "unknown")
            first, *others = [_file(file) for file in stored.files] or ["none"]
            rows.append((stored.stamp, date, database, ", ".join(_state(stored)), first))
            rows += [("", "", "", "", other) for other in others]
        yield from _table(rows) if location.sets else ["  none"]
        for other_file in location.other_files:
            yield f"  {other_file.state}: {printable(other_file.file)}"


def _state(stored: StoredSet) -> Iterator[str]:
    """The state of a set: `complete, verified 2026-11-24, drill passed 2026-11-24`."""
    verified, drill = stored.verified, stored.drill
    yield stored.state
    if stored.broken_base is not None:
        yield f"builds on {stored.broken_base}, which is missing or damaged"
    elif stored.builds_on is not None:
        yield f"builds on {stored.builds_on}"
    if verified is not None:
        yield f"{'verified' if verified.passed else 'verification failed'} {verified.at:%Y-%m-%d}"
    if drill is not None:
        yield f"drill {'passed' if drill.passed else 'failed'} {drill.at:%Y-%m-%d}"
    if stored.truncated:
        yield f"truncated {printable(' and '.join(stored.truncated))}"


def _file(file: StoredFile) -> str:
    from vector_backup_pipeline.engine.results import readable_size

    details = [] if file.rows is None else [f"{file.rows} rows"]
    details.append(readable_size(file.bytes))
    if file.stored_bytes is None:
        details.append("missing")
    elif not file.is_whole:
        details.append(f"{readable_size(file.stored_bytes)} stored")
    return f"{printable(file.name)} ({', '.join(details)})"


def _table(rows: list[tuple[str, ...]]) -> Iterator[str]:
    """The rows as aligned columns; the last column is not padded."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for *cells, last in rows:
        padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=False)]
        yield "  " + "  ".join([*padded, last])
