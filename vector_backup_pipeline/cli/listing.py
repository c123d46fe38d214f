"""`vector-backup list`, `show` and `stats`."""

from collections.abc import Iterator
from typing import Any

import click

from vector_backup_pipeline.cli.options import parameter_options
from vector_backup_pipeline.cli.showing import (
    DONE,
    age,
    json_option,
    show_json,
    show_lines,
    show_table,
)
from vector_backup_pipeline.engine.catalog.details import describe_set
from vector_backup_pipeline.engine.catalog.locations import (
    BackupLocation,
    find_directory,
    find_locations,
    labels_of,
    list_backups,
)
from vector_backup_pipeline.engine.catalog.statistics import GROWTH_DAYS, statistics_of
from vector_backup_pipeline.engine.catalog.stored_sets import StoredSet
from vector_backup_pipeline.engine.results import readable_size
from vector_backup_pipeline.parameters.listing import ListParameters, ShowParameters
from vector_backup_pipeline.settings import Settings, load_settings

# In the heading, or what scripts of the older service read.
_NOT_SHOWN = {
    *("timestamp", "location", "tables", "files", "complete", "has_log", "log_file"),
    *("collection_file", "embedding_file", "collection_size", "embedding_size"),
}
_LABELS = {"run_id": "Run ID", "sha256": "SHA-256", "pgvector_version": "pgvector version"}


@click.command("list")
@parameter_options(ListParameters)
@json_option
def list_command(parameters: ListParameters, as_json: bool) -> int:
    """List backup sets.

    Sets are listed by location, newest first, followed by files that belong to no set. SIZE is
    that of the set's own files, ROWS are those of its tables.

    \b
    Examples:
      vector-backup list
      vector-backup list --task-id corpus_7
      vector-backup list --json | jq '.backup_locations[0].backups[0].timestamp'
    """
    settings, locations = _find(parameters)
    timestamps = settings.timestamps
    if as_json:
        show_json(list_backups(locations, timestamps).as_json())
        return DONE
    if not locations:
        show_lines(f"No backups under {settings.open_root().location}.")
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
@parameter_options(ShowParameters)
@json_option
def show_command(parameters: ShowParameters, as_json: bool) -> int:
    """Show the details of one backup set.

    "Bytes" is the size of a table's file as written, "Stored bytes" its size now, and "Table bytes"
    the size that the table had in the database.

    \b
    Examples:
      vector-backup show latest
      vector-backup show 20250721_234914 --task-id corpus_7
      vector-backup show latest --json | jq '.tables[].digest'
    """
    settings = load_settings(target=parameters.target)
    directory = find_directory(settings.open_root(), None, parameters.task_id)
    details = describe_set(directory, parameters.timestamp)
    if as_json:
        show_json(details)
        return DONE
    show_lines(f"Set {details['timestamp']} in {details['location']}")
    show_table(("", ""), _facts(details))
    for name, table in details["tables"].items():
        show_lines("", f"Table {name}")
        show_table(("", ""), _facts(table))
    return DONE


@click.command("stats")
@parameter_options(ListParameters)
@json_option
def stats_command(parameters: ListParameters, as_json: bool) -> int:
    """Show how many sets there are, their size and growth.

    ROWS are those of the newest complete set of each database. 7 DAYS and 30 DAYS are the bytes of
    the sets made in that time, and the change in rows since the newest sets before it. SAVED is how
    much larger incremental sets would be if each were as large as the full set of its chain.

    \b
    Examples:
      vector-backup stats
      vector-backup stats --json | jq '.total.bytes'
    """
    settings, locations = _find(parameters)
    now = settings.timestamps.now()
    by_location = [statistics_of([location], now) for location in locations]
    total = statistics_of(locations, now)
    if as_json:
        documents = [
            {"task_id": location.task_id, "location": location.location, **numbers}
            for location, numbers in zip(locations, by_location, strict=True)
        ]
        show_json({"locations": documents, "total": total})
        return DONE
    rows, names = [], [*(_owner(location.task_id) for location in locations), "total"]
    for name, numbers in zip(names, [*by_location, total], strict=True):
        sizes = [readable_size(numbers[key]) for key in ("bytes", "bytes_saved")]
        growth = []
        for days in GROWTH_DAYS:
            size, change = numbers[f"bytes_{days}_days"], numbers[f"rows_{days}_days"]
            more = "" if change is None else f", {change:+} rows"
            growth.append(readable_size(size) + more)
        rows.append((name, str(numbers["sets"]), *sizes, str(numbers["rows"] or 0), *growth))
    headings = ("LOCATION", "SETS", "SIZE", "SAVED", "ROWS", "7 DAYS", "30 DAYS")
    show_table(headings, rows, right=headings[1:])
    return DONE


def _find(parameters: ListParameters) -> tuple[Settings, list[BackupLocation]]:
    settings = load_settings(target=parameters.target)
    task_id, global_only = parameters.task_id, parameters.global_only
    root = settings.open_root()
    return settings, find_locations(root, task_id=task_id, global_only=global_only)


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


def _facts(details: dict[str, Any]) -> list[tuple[str, str]]:
    """What is known, with the keys as words."""
    facts = []
    for key, value in details.items():
        if key not in _NOT_SHOWN and value is not None:
            text = readable_size(value) if key.endswith("bytes") else str(value)
            if isinstance(value, list):
                text = ", ".join(value) or "none"
            facts.append((_LABELS.get(key, key.replace("_", " ").capitalize()), text))
    return facts
