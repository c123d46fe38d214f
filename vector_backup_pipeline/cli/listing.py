"""`vector-backup list`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import click

from vector_backup_pipeline.cli.showing import DONE, json_option, printable, show_json

if TYPE_CHECKING:
    from vector_backup_pipeline.engine.catalog.locations import (
        BackupLocation,
        StoredFile,
        StoredSet,
    )
    from vector_backup_pipeline.engine.catalog.sources import SourceDatabase
    from vector_backup_pipeline.engine.storage.contract import BackupRoot
    from vector_backup_pipeline.engine.timestamps import TimestampFormat

_HEADINGS = ("TIMESTAMP", "DATE", "DATABASE", "STATE", "FILES")


@click.command("list")
@click.option(
    "--task-id",
    metavar="ID",
    help="Only the sets of this task, such as corpus_7. Default: all.",
)
@click.option(
    "--global-only",
    is_flag=True,
    help="Only the sets of the root itself, not those of tasks. Default: off.",
)
@json_option
def list_command(task_id: str | None, global_only: bool, as_json: bool) -> int:
    """List backup sets.

    Newest first, with other files that are not part of a set.

    \b
    Examples:
      vector-backup list
      vector-backup list --task-id corpus_7
      vector-backup list --json | jq '.backup_locations[0].backups[0].timestamp'
    """
    from vector_backup_pipeline.engine.catalog.listing import as_list
    from vector_backup_pipeline.engine.catalog.locations import find_locations
    from vector_backup_pipeline.engine.storage.opening import open_root
    from vector_backup_pipeline.settings import load_settings

    settings = load_settings()
    root = open_root(settings.root, settings.directory, manifest_key=settings.manifest_key)
    found = find_locations(root, settings.timestamps, task_id=task_id, global_only=global_only)
    if as_json:
        show_json(as_list(found, settings.timestamps).as_json())
    else:
        click.echo("\n".join(_lines(found, root, settings.timestamps)))
    return DONE


def _lines(
    found: list[BackupLocation], root: BackupRoot, timestamps: TimestampFormat
) -> Iterator[str]:
    from vector_backup_pipeline.engine.catalog.listing import labels_of

    if not found:
        yield f"No backups under {root.location}."
    labels = labels_of(found)
    for number, location in enumerate(found):
        if number:
            yield ""
        yield from _location_lines(location, timestamps, labels)


def _location_lines(
    location: BackupLocation, timestamps: TimestampFormat, labels: Mapping[SourceDatabase, str]
) -> Iterator[str]:
    of = "the root" if location.task_id is None else f"task {location.task_id}"
    yield f"Backups of {of}: {printable(location.location)}"
    rows: list[tuple[str, ...]] = [_HEADINGS]
    for found_set in location.sets:
        source = found_set.source
        database = labels[source] if source else "unknown"
        rows += _set_rows(found_set, timestamps, printable(database))
    yield from _table(rows) if location.sets else ["  none"]
    for other in location.other_files:
        yield f"  {other.state}: {printable(other.name)}"


def _set_rows(
    found: StoredSet, timestamps: TimestampFormat, database: str
) -> Iterator[tuple[str, ...]]:
    date = f"{found.date(timestamps):%Y-%m-%d %H:%M:%S %Z}"
    first, *others = [_file(file) for file in found.files] or ["none"]
    yield found.stamp, date, database, ", ".join(_state(found)), first
    for other in others:
        yield "", "", "", "", other


def _state(found: StoredSet) -> Iterator[str]:
    """What is known of a set: `complete, verified 2026-11-24, drill passed 2026-11-24`."""
    verified, drill = found.verdicts.verified, found.verdicts.drill
    yield found.state
    if verified is not None:
        yield f"{'verified' if verified.passed else 'verification failed'} {verified.at:%Y-%m-%d}"
    if drill is not None:
        yield f"drill {'passed' if drill.passed else 'failed'} {drill.at:%Y-%m-%d}"
    if found.truncated:
        yield f"truncated {printable(' and '.join(found.truncated))}"


def _file(file: StoredFile) -> str:
    from vector_backup_pipeline.engine.results import readable_size

    about = [] if file.rows is None else [f"{file.rows} rows"]
    about.append(readable_size(file.bytes))
    if file.stored_bytes is None:
        about.append("missing")
    elif not file.is_whole:
        about.append(f"{readable_size(file.stored_bytes)} stored")
    return f"{printable(file.name)} ({', '.join(about)})"


def _table(rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """Columns side by side; only the last may be of any width."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in list(zip(*rows, strict=True))[:-1]]
    for *cells, last in rows:
        padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
        yield "  " + "  ".join([*padded, last])
