"""How many sets there are, how large they are, and how fast they grow."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from vector_backup_pipeline.engine.catalog.locations import BackupLocation
from vector_backup_pipeline.engine.catalog.stored_sets import StoredFile, StoredSet
from vector_backup_pipeline.engine.record import Record


class Statistics(Record):
    """The sets of some locations.

    `bytes` are those of the sets' stored files. `rows` are those of the newest complete set of each
    source database, null without one. `bytes_7_days` are those of the sets made in the last 7 days;
    `rows_7_days` is the change in rows, null if there was no complete set before.

    `bytes_saved` estimates what incremental tables save: the rows of the table times the bytes per
    row in the data file of the full set of its chain, minus the size of its own data and key file.
    Tables without such a file, or with an empty one, do not count.
    """

    sets: int
    bytes: int
    bytes_saved: int
    rows: int | None
    bytes_7_days: int
    rows_7_days: int | None
    bytes_30_days: int
    rows_30_days: int | None


def statistics_of(locations: Sequence[BackupLocation], now: datetime) -> Statistics:
    sets = [stored for location in locations for stored in location.sets]
    week, month = now - timedelta(days=7), now - timedelta(days=30)

    def rows_at(moment: datetime) -> int | None:
        newest = {
            (location.location, s.source): s.rows or 0
            for location in locations
            for s in reversed(location.sets)
            if s.is_usable and s.created_at <= moment
        }
        return sum(newest.values()) if newest else None

    def rows_since(moment: datetime) -> int | None:
        before, after = rows_at(moment), rows_at(now)
        return None if before is None or after is None else after - before

    return Statistics(
        sets=len(sets),
        bytes=sum(s.stored_bytes for s in sets),
        bytes_saved=sum(_bytes_saved(location.sets) for location in locations),
        rows=rows_at(now),
        bytes_7_days=sum(s.stored_bytes for s in sets if s.created_at > week),
        rows_7_days=rows_since(week),
        bytes_30_days=sum(s.stored_bytes for s in sets if s.created_at > month),
        rows_30_days=rows_since(month),
    )


def _bytes_saved(sets: Sequence[StoredSet]) -> int:
    """Of the incremental tables of one location, whose sets are given newest first."""
    full_files: dict[tuple[str, tuple[str, str]], StoredFile | None] = {}
    saved = 0
    for stored in reversed(sets):
        for file in stored.files:
            full = full_files.get((file.builds_on, file.identity)) if file.builds_on else file
            full_files[stored.stamp, file.identity] = full
            if file.builds_on and full and full.rows:
                keys = sum(k.bytes for k in stored.key_files if k.identity == file.identity)
                saved += round((file.rows or 0) * full.bytes / full.rows) - file.bytes - keys
    return saved
