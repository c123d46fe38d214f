"""`vector-backup list`, `show` and `stats`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

import click

from vector_backup_pipeline.cli.options import global_only_option, location_options
from vector_backup_pipeline.cli.showing import (
    DONE,
    age,
    json_option,
    show_json,
    show_lines,
    show_table,
)

if TYPE_CHECKING:
    from vector_backup_pipeline.engine.catalog.stored_sets import StoredSet
    from vector_backup_pipeline.engine.record import Record

# In the heading, or what scripts of the older service read.
_NOT_SHOWN = {
    *("timestamp", "location", "tables", "files", "complete", "has_log", "log_file"),
    *("collection_file", "embedding_file", "collection_size", "embedding_size"),
}


@click.command("list")
@location_options("all")
@global_only_option
@json_option
def list_command(target: str | None, task_id: str | None, global_only: bool, as_json: bool) -> int:
    """List backup sets.

    Sets are listed by location, newest first, followed by files that belong to no set. SIZE is
    that of the set's own files, ROWS are those of its tables.

    \b
    Examples:
      vector-backup list
      vector-backup list --task-id corpus_7
      vector-backup list --json | jq '.backup_locations[0].backups[0].timestamp'
    """
    from vector_backup_pipeline.engine.catalog.locations import (
        find_locations,
        labels_of,
        list_backups,
    )
    from vector_backup_pipeline.engine.results import readable_size
    from vector_backup_pipeline.settings import load_settings

    settings = load_settings(target=target)
    root, timestamps = settings.open_root(), settings.timestamps
    if as_json:
        backups = list_backups(root, timestamps, task_id=task_id, global_only=global_only)
        show_json(backups.as_json())
        return DONE
    locations = find_locations(root, timestamps, task_id=task_id, global_only=global_only)
    if not locations:
        show_lines(f"No backups under {root.location}.")
    labels, now = labels_of(locations), timestamps.now()
    for number, location in enumerate(locations):
        if number > 0:
            show_lines("")
        show_lines(f"Backups of {_owner(location.task_id)}: {location.location}")
        rows = [
            (
                stored.stamp,
                age(stored.created_at, now),
                labels[stored.source] if stored.source else "unknown",
                "unknown" if stored.rows is None else str(stored.rows),
                readable_size(stored.stored_bytes),
                ", ".join(_state(stored)),
            )
            for stored in location.sets
        ]
        headings = ("TIMESTAMP", "AGE", "DATABASE", "ROWS", "SIZE", "STATE")
        show_table(headings, rows, right=("ROWS", "SIZE"))
        size = readable_size(sum(stored.stored_bytes for stored in location.sets))
        show_lines(f"  {len(rows)} {'set' if len(rows) == 1 else 'sets'}, {size}")
        show_lines(*(f"  {other.state}: {other.file}" for other in location.other_files))
    return DONE


@click.command("show")
@click.argument("set_", metavar="SET")
@location_options("the root's own sets")
@json_option
def show_command(set_: str, target: str | None, task_id: str | None, as_json: bool) -> int:
    """Show all that is known of one backup set.

    SET is its timestamp, or latest for the newest complete one. Of a table's file, "bytes" were
    written and "stored bytes" are there; "table bytes" was the table's size in the database.

    \b
    Examples:
      vector-backup show latest
      vector-backup show 20250721_234914 --task-id corpus_7
      vector-backup show latest --json | jq '.tables[].digest'
    """
    from vector_backup_pipeline.engine.catalog.details import describe_set
    from vector_backup_pipeline.settings import load_settings

    settings = load_settings(target=target)
    details = describe_set(settings.open_root(), settings.timestamps, set_, task_id)
    if as_json:
        show_json(details.model_dump(mode="json"))
        return DONE
    now = settings.timestamps.now()
    show_lines(f"Set {details.timestamp} in {details.location}")
    show_table(("", ""), _facts(details, now))
    for name, table in details.tables.items():
        show_lines("", f"Table {name}")
        show_table(("", ""), _facts(table, now))
    return DONE


@click.command("stats")
@location_options("all")
@global_only_option
@json_option
def stats_command(target: str | None, task_id: str | None, global_only: bool, as_json: bool) -> int:
    """Show how many sets there are, their size and growth.

    ROWS are those of the newest complete set of each database. 7 DAYS and 30 DAYS are the bytes of
    the sets made since then, and the change in rows, if a set is that old. SAVED is how much larger
    incremental tables would be if they were full, by the bytes per row in the full set of their
    chain, minus the size of their data and key files.

    \b
    Examples:
      vector-backup stats
      vector-backup stats --json | jq '.total.bytes'
    """
    from vector_backup_pipeline.engine.catalog.locations import find_locations
    from vector_backup_pipeline.engine.catalog.statistics import statistics_of
    from vector_backup_pipeline.engine.results import readable_size
    from vector_backup_pipeline.settings import load_settings

    settings = load_settings(target=target)
    root, timestamps = settings.open_root(), settings.timestamps
    locations = find_locations(root, timestamps, task_id=task_id, global_only=global_only)
    now = timestamps.now()
    each, total = [statistics_of([one], now) for one in locations], statistics_of(locations, now)
    if as_json:
        documents = [
            {"task_id": one.task_id, "location": one.location, **s.model_dump()}
            for one, s in zip(locations, each, strict=True)
        ]
        show_json({"locations": documents, "total": total.model_dump()})
        return DONE
    rows, tasks = [], [one.task_id for one in locations]
    for name, s in zip([*map(_owner, tasks), "total"], [*each, total], strict=True):
        sizes = [readable_size(size) for size in (s.bytes, s.bytes_saved)]
        growth = [
            readable_size(size) + ("" if change is None else f", {change:+} rows")
            for size, change in (
                (s.bytes_7_days, s.rows_7_days),
                (s.bytes_30_days, s.rows_30_days),
            )
        ]
        rows.append((name, str(s.sets), *sizes, str(s.rows or 0), *growth))
    headings = ("LOCATION", "SETS", "SIZE", "SAVED", "ROWS", "7 DAYS", "30 DAYS")
    show_table(headings, rows, right=headings[1:])
    return DONE


def _owner(task_id: str | None) -> str:
    return "the root" if task_id is None else f"task {task_id}"


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
        yield f"truncated {' and '.join(stored.truncated)}"


def _facts(record: Record, now: datetime) -> list[tuple[str, str]]:
    """The known fields of a record, with their names as words."""
    from vector_backup_pipeline.engine.results import readable_size

    facts = []
    for key, value in record:
        if key in _NOT_SHOWN or (value is None and key not in ("verified", "drill")):
            continue
        text = "never" if value is None else str(value)
        if isinstance(value, datetime):
            text = f"{value:%Y-%m-%d %H:%M:%S %Z} ({age(value, now)})"
        elif isinstance(value, list):
            text = ", ".join(value) or "none"
        elif isinstance(value, int) and key.endswith("bytes"):
            text = readable_size(value)
        facts.append((key.replace("_", " ").capitalize(), text))
    return facts
