"""How many sets there are, how large they are, and how fast they grow."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from vector_backup_pipeline.engine.catalog.locations import BackupLocation
from vector_backup_pipeline.engine.catalog.stored_sets import StoredSet

GROWTH_DAYS = (7, 30)


def statistics_of(locations: Sequence[BackupLocation], now: datetime) -> dict[str, Any]:
    """The sets of some locations, as JSON.

    `bytes` are those of the sets' stored files. `rows` are those of the newest complete set of each
    source database, null without one. `bytes_7_days` are those of the sets made in the last 7 days;
    `rows_7_days` is the change in rows, null if there was no complete set before.

    `bytes_saved` is an estimate: how much larger incremental sets would be if each were as large as
    the full set of its chain. Sets without it do not count.
    """
    sets = [stored for location in locations for stored in location.sets]

    def rows_at(moment: datetime) -> int | None:
        newest = {
            (location.location, s.source): s.rows or 0
            for location in locations
            for s in reversed(location.sets)
            if s.is_usable and s.created_at <= moment
        }
        return sum(newest.values()) if newest else None

    rows = rows_at(now)
    statistics: dict[str, Any] = {
        "sets": len(sets),
        "bytes": sum(s.stored_bytes for s in sets),
        "bytes_saved": sum(_bytes_saved(location.sets) for location in locations),
        "rows": rows,
    }
    for days in GROWTH_DAYS:
        since = now - timedelta(days=days)
        size = sum(s.stored_bytes for s in sets if s.created_at > since)
        before = rows_at(since)
        statistics[f"bytes_{days}_days"] = size
        # A set from before counts in `rows` as well.
        statistics[f"rows_{days}_days"] = None if before is None else (rows or 0) - before
    return statistics


def _bytes_saved(sets: Sequence[StoredSet]) -> int:
    """Of the sets of one location, given newest first."""
    full_sets: dict[str, StoredSet | None] = {}
    for stored in reversed(sets):
        base = stored.builds_on
        full_sets[stored.stamp] = stored if base is None else full_sets.get(base)
    fulls = ((full_sets[stored.stamp], stored) for stored in sets)
    return sum(full.stored_bytes - stored.stored_bytes for full, stored in fulls if full)
